//! The mesh tested from outside: real processes, real peers, in-process applications that count what reaches them.
//!
//! Everything listens on loopback, on free ports, and is killed by its id when the test ends, however it ends.

pub mod application;
pub mod client;
pub mod load;
pub mod mesh;
pub mod peers;
pub mod process;

/// Waits until `check` gives a value, asking often; panics with `what` when `seconds` are over.
pub async fn eventually<T, F>(what: &str, seconds: u64, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(std::time::Instant::now() < limit, "not within {seconds} s: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A free loopback port. Another process may take it before it is used; nothing here opens ports at random otherwise.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}
