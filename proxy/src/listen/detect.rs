//! What a connection speaks, by its first bytes: HTTP/2 begins with a preface that is no HTTP/1 request (RFC 9113 §3.4).

use crate::{drain, upstream::Io};
use std::{io, time::Duration};
use tokio::io::AsyncReadExt;

/// What HTTP/2 connections begin with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that says nothing for so long is closed.
const FIRST_BYTE: Duration = Duration::from_secs(300);

/// The same while the process drains, at least.
const DRAINING: Duration = Duration::from_secs(2);

/// The version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads until it is clear what is spoken; what was read is returned too. `None`: it was closed, or silent for too long.
///
/// # Errors
/// The connection broke.
pub async fn detect(io: &mut Io, drain: &drain::Watch) -> io::Result<Option<(Speaks, Vec<u8>)>> {
    let mut read = Vec::new();
    loop {
        // A connection that says nothing while the process drains need not be waited for much longer.
        let patience = if drain.is_draining() { drain.patience().max(DRAINING) } else { FIRST_BYTE };
        let mut draining = drain.clone();
        let more = async {
            if io.is_plain() {
                // No room is kept for what may come much later. (TLS may have it already.)
                io.readable().await?;
            }
            read.reserve(4096);
            io.read_buf(&mut read).await
        };
        let more = tokio::select! {
            more = tokio::time::timeout(patience, more) => more,
            () = draining.begun(), if !drain.is_draining() => continue,
        };
        match more {
            Err(_) | Ok(Ok(0)) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => {}
        }
        match decide(&read) {
            Some(speaks) => return Ok(Some((speaks, read))),
            None => continue,
        }
    }
}

/// `None`: more bytes are needed.
fn decide(read: &[u8]) -> Option<Speaks> {
    let n = read.len().min(PREFACE.len());
    if read.get(..n) != PREFACE.get(..n) {
        return Some(Speaks::Http1);
    }
    (n == PREFACE.len()).then_some(Speaks::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_a_request_as_early_as_can_be() {
        assert_eq!(decide(b"G"), Some(Speaks::Http1));
        assert_eq!(decide(b"P"), None);
        assert_eq!(decide(b"PR"), None);
        assert_eq!(decide(b"PROPFIND"), Some(Speaks::Http1));
        assert_eq!(decide(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(decide(PREFACE), Some(Speaks::Http2));
    }
}
