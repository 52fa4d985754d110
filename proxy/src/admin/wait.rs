//! Waiting for another process of ours to be ready: what holds an application back until its sidecar serves, where
//! nothing else does (a container's `postStart` hook).

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(50);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// What is read of it.
const LONGEST: u64 = 4096;

/// Asks `/readyz` at the address where that process serves it, until it is ready.
///
/// # Errors
/// It is not in time; what was missing.
pub fn wait(health: SocketAddr, patience: Duration) -> Result<(), String> {
    let here = match health.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(here, health.port());
    let limit = Instant::now() + patience;
    loop {
        let missing = match ask(address) {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= limit {
            return Err(format!("the sidecar at {address} is not ready after {patience:?}: {missing}"));
        }
        thread::sleep(INTERVAL);
    }
}

/// What is missing.
fn ask(address: SocketAddr) -> io::Result<Option<String>> {
    let mut tcp = TcpStream::connect_timeout(&address, ANSWER)?;
    tcp.set_read_timeout(Some(ANSWER))?;
    tcp.write_all(b"GET /readyz HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    tcp.take(LONGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(None);
    }
    let said = answer.split_once("\r\n\r\n").map_or("it does not answer", |(_, said)| said);
    Ok(Some(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn it_waits_until_the_answer_is_yes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = thread::spawn(move || {
            for answer in ["503 x\r\n\r\nnot ready: no certificate\n", "200 OK\r\n\r\nready\n"] {
                let (mut tcp, _) = listener.accept().unwrap();
                let mut asked = [0; 64];
                let n = tcp.read(&mut asked).unwrap();
                assert!(asked[..n].starts_with(b"GET /readyz "));
                tcp.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
            }
        });
        wait(address, Duration::from_secs(20)).unwrap();
        answers.join().unwrap();
        let why = wait(address, Duration::ZERO).unwrap_err();
        assert!(why.contains("not ready after 0ns"), "{why}");
    }
}
