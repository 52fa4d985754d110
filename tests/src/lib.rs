//! The mesh tested from outside: real processes, real peers, in-process applications that count what reaches them.
//!
//! Everything listens on loopback, on free ports, and is killed by its id when the test ends, however it ends.

pub mod anyone;
pub mod application;
pub mod client;
pub mod cluster;
pub mod etcd;
pub mod frames;
pub mod humble;
pub mod kubelet;
pub mod load;
pub mod mesh;
pub mod message;
pub mod peers;
pub mod pods;
pub mod process;
pub mod raw;
pub mod upstream;
pub mod wire;

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

/// A free loopback port, handed out once: below those that the kernel gives to outgoing connections, and above those
/// that a sidecar has unless told otherwise (a Workload document that names one of them must say more).
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    const FIRST: u32 = 16_000;
    const COUNT: u32 = 16_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(211);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(n < COUNT, "no port is free");
        let port = (FIRST + start.wrapping_add(n) % COUNT) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
