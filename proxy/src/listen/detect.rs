//! What a connection speaks, by its first bytes: where it is known to be HTTP, which version ([`detect`]: HTTP/2 begins with
//! a preface that is no HTTP/1 request, RFC 9113 §3.4); where nothing is known, what at all ([`race`]).
//!
//! In a race nobody is waited for. The connection to the other side is made meanwhile, and who speaks first decides: a
//! server that does is carried as bytes at once; of a client the first line (or TLS's first message) tells. Two that are
//! silent cost two silent connections.

use super::hello::{self, Hello};
use crate::{
    drain,
    error::{Error, Result},
    upstream::Io,
};
use std::{future::Future, io, pin::pin, time::Duration};
use tokio::io::AsyncReadExt;

/// What HTTP/2 connections begin with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that says nothing for so long is closed.
const FIRST_BYTE: Duration = Duration::from_secs(300);

/// The same while the process drains, at least.
const DRAINING: Duration = Duration::from_secs(2);

/// A first line that is longer is none.
const LONGEST_LINE: usize = 64 * 1024;

/// Who has begun something that may become a first line, and does not go on for so long, may be waiting for an answer:
/// then it is not HTTP, or not in earnest.
const GRACE: Duration = Duration::from_millis(500);

/// Where the client was the first to speak so far, the other side is called only when this one is silent for so long.
const HEAD_START: Duration = Duration::from_secs(1);

/// The version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What came of a race.
pub enum Told {
    /// The client went away.
    Gone,
    /// HTTP, by these first bytes.
    Http(Speaks, Vec<u8>),
    /// Anything else.
    Bytes(Bytes),
}

/// A connection of bytes.
pub struct Bytes {
    /// What was read of the client.
    pub client: Vec<u8>,
    /// What was read of the other side.
    pub server: Vec<u8>,
    /// How it was told.
    pub how: How,
    /// It is TLS: the server name that is asked for; may be empty.
    pub sni: Option<String>,
}

impl Bytes {
    /// Of which nothing was read.
    pub fn none(how: How) -> Self {
        Self { client: vec![], server: vec![], how, sni: None }
    }
}

/// How a protocol was told: the `method` of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// Somebody has said it.
    Declared,
    /// The destination is not of the mesh.
    Passthrough,
    /// By the client's first bytes.
    ClientBytes,
    /// The server spoke first.
    ServerFirst,
    /// The client began what may be HTTP or TLS, and waits.
    Grace,
}

impl How {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Passthrough => "passthrough",
            Self::ClientBytes => "client_bytes",
            Self::ServerFirst => "server_first",
            Self::Grace => "grace",
        }
    }
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

/// What the first bytes of a client are, where nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guess {
    More,
    Http(Speaks),
    /// With the server name that is asked for, if any.
    Tls(String),
    Bytes,
}

/// A request of HTTP/1 is told by its whole first line (RFC 9112 §3): methods are any token, and other protocols have
/// lines that begin like one (`GET key`).
fn guess(read: &[u8]) -> Guess {
    let n = read.len().min(PREFACE.len());
    if read.get(..n) == PREFACE.get(..n) {
        return if n == PREFACE.len() { Guess::Http(Speaks::Http2) } else { Guess::More };
    }
    if hello::begins(read) {
        return match hello::server_name(read) {
            Hello::More => Guess::More,
            Hello::Name(name) => Guess::Tls(name.unwrap_or_default()),
            Hello::Other => Guess::Bytes,
        };
    }
    let (line, whole) = match read.iter().position(|b| *b == b'\n') {
        Some(end) => (read.get(..end).unwrap_or_default(), true),
        None => (read, false),
    };
    if line.len() > LONGEST_LINE || !may_be_request(line) {
        return Guess::Bytes;
    }
    if !whole {
        return Guess::More;
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    // Between the method's space and the version's there is a target.
    let ends = |version: &[u8]| line.ends_with(version) && line.len() > method + 1 + version.len();
    if ends(b" HTTP/1.1") || ends(b" HTTP/1.0") { Guess::Http(Speaks::Http1) } else { Guess::Bytes }
}

/// A token, then nothing but text.
fn may_be_request(line: &[u8]) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let method = line.iter().take_while(|b| token(**b)).count();
    match line.get(method) {
        None => method > 0,
        Some(b' ') => method > 0 && line.iter().skip(method).all(|b| *b > 0x1f && *b != 0x7f || *b == b'\r'),
        Some(_) => false,
    }
}

/// Waits for whoever speaks first, while `open` calls the other side; its connection is left in `other`. `client_first`:
/// so far it was the client, with HTTP: then it has a head start.
///
/// # Errors
/// The other side could not be reached, and the client waits for it to speak.
pub async fn race<F>(client: &mut Io, other: &mut Option<Io>, open: F, client_first: bool) -> Result<Told>
where
    F: Future<Output = Result<Io>>,
{
    let mut open = pin!(open);
    let (mut read, mut said) = (Vec::new(), Vec::new());
    let mut failed: Option<Error> = None;
    let mut began = tokio::time::Instant::now();
    let mut waits = client_first;
    let (how, sni) = loop {
        tokio::select! {
            // What is there already needs no call.
            biased;
            more = read_some(client, &mut read) => match more {
                Err(_) => return Ok(Told::Gone),
                // Nothing was asked of a server that is asked first.
                Ok(0) if read.is_empty() && waits => return Ok(Told::Gone),
                Ok(0) => return Ok(bytes(read, said, How::ClientBytes, None)),
                Ok(_) => match guess(&read) {
                    Guess::More => began = tokio::time::Instant::now(),
                    Guess::Http(speaks) => return Ok(Told::Http(speaks, read)),
                    Guess::Tls(sni) => break (How::ClientBytes, Some(sni)),
                    Guess::Bytes => break (How::ClientBytes, None),
                },
            },
            opened = open.as_mut(), if other.is_none() && failed.is_none() && !waits => match opened {
                Ok(io) => *other = Some(io),
                Err(error) if read.is_empty() => return Err(error),
                Err(error) => failed = Some(error),
            },
            first = listen(other.as_mut(), &mut said), if other.is_some() => {
                // Also an end is an answer.
                let _ = first;
                return Ok(bytes(read, said, How::ServerFirst, None));
            }
            () = tokio::time::sleep_until(began + HEAD_START), if waits && read.is_empty() => waits = false,
            () = tokio::time::sleep_until(began + GRACE), if !read.is_empty() => match failed {
                Some(error) => return Err(error),
                None => break (How::Grace, None),
            },
        }
    };
    if other.is_none() && failed.is_none() {
        // The call that is under way goes on: another would take longer, and the other side would see one broken off.
        *other = Some(open.await?);
    }
    Ok(bytes(read, said, how, sni))
}

fn bytes(client: Vec<u8>, server: Vec<u8>, how: How, sni: Option<String>) -> Told {
    Told::Bytes(Bytes { client, server, how, sni })
}

/// Reads what is there; keeps no room while nothing is.
async fn read_some(io: &mut Io, read: &mut Vec<u8>) -> io::Result<usize> {
    if io.is_plain() {
        io.readable().await?;
    }
    if read.capacity() - read.len() < 1024 {
        read.reserve(4096);
    }
    io.read_buf(read).await
}

async fn listen(io: Option<&mut Io>, said: &mut Vec<u8>) -> io::Result<usize> {
    match io {
        Some(io) => {
            // Over TLS there may be something to read that says nothing (session tickets).
            io.readable().await?;
            said.reserve(2048);
            io.read_buf(said).await
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
