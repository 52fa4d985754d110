//! An HTTP/1.1 client that costs next to nothing: the request is bytes that never change, the answer is a length.

use crate::{
    contestant::{Failure, Target},
    scenario::{Scenario, Shape},
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What is read or written at once.
const BUFFER: usize = 64 * 1024;

static BODY: [u8; BUFFER] = [b'u'; BUFFER];

/// One connection.
pub(super) struct Connection {
    tcp: TcpStream,
    request: Arc<[u8]>,
    shape: Shape,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn connect(scenario: Scenario, target: &Target) -> Result<Self, Failure> {
        let shape = scenario.shape();
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let head = if shape.up > 0 {
            format!("PUT {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n", shape.path, target.authority, shape.up)
        } else {
            format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", shape.path, target.authority)
        };
        let buffer = if scenario.is_bulk() { BUFFER } else { 4096 };
        Ok(Self { tcp, request: head.into_bytes().into(), shape, buffer: vec![0; buffer] })
    }

    pub(super) async fn exchange(&mut self) -> Result<(), Failure> {
        self.tcp.write_all(&self.request).await?;
        let mut left = self.shape.up;
        while left > 0 {
            left -= self.tcp.write(&BODY[..left.min(BUFFER)]).await?;
        }
        let mut filled = 0;
        let (head, length) = loop {
            let n = self.tcp.read(&mut self.buffer[filled..]).await?;
            if n == 0 {
                return Err("the connection ended, or the head of an answer is too large".into());
            }
            filled += n;
            if let Some(head) = parse(&self.buffer[..filled])? {
                break head;
            }
        };
        if length != self.shape.down {
            return Err(format!("an answer of {length} bytes").into());
        }
        let mut rest = (head + length).checked_sub(filled).ok_or("more than an answer")?;
        while rest > 0 {
            let most = rest.min(self.buffer.len());
            let n = self.tcp.read(&mut self.buffer[..most]).await?;
            if n == 0 {
                return Err("an answer that ends early".into());
            }
            rest -= n;
        }
        Ok(())
    }
}

/// The length of the head and of the body of a good answer; `None` when the head is not whole yet.
fn parse(bytes: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("status {status}").into());
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((end + 4, length.ok_or("an answer without a length")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_length() {
        let whole = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(parse(whole).unwrap(), Some((whole.len() - 3, 3)));
        assert_eq!(parse(&whole[..20]).unwrap(), None);
        assert!(parse(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
