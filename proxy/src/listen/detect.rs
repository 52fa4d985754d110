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
    loop {
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
                    Guess::Tls(sni) => return Ok(bytes(read, said, How::ClientBytes, Some(sni))),
                    Guess::Bytes => return Ok(bytes(read, said, How::ClientBytes, None)),
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
                None => return Ok(bytes(read, said, How::Grace, None)),
            },
        }
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn the_preface_is_told_from_a_request_as_early_as_can_be() {
        assert_eq!(decide(b"G"), Some(Speaks::Http1));
        assert_eq!(decide(b"P"), None);
        assert_eq!(decide(b"PR"), None);
        assert_eq!(decide(b"PROPFIND"), Some(Speaks::Http1));
        assert_eq!(decide(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(decide(PREFACE), Some(Speaks::Http2));
    }

    #[test]
    fn http_is_told_by_its_first_line_whatever_its_method() {
        let http1 = Guess::Http(Speaks::Http1);
        for (read, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], http1.clone()),
            (b"GET / HTTP/1.0\n", http1.clone()),
            (b"X-my.method! /a%20b?c HTTP/1.1\r\nhost: a\r\n", http1.clone()),
            ("GET /\u{e9} HTTP/1.1\r\n".as_bytes(), http1.clone()),
            (b"OPTIONS * HTTP/1.1\r\n", http1),
            (PREFACE, Guess::Http(Speaks::Http2)),
            (b"PRI * HTTP/2.0\r\n", Guess::More),
            (b"G", Guess::More),
            (b"GET /", Guess::More),
            (b"GET / HTTP/1.1", Guess::More),
            // Redis, memcached, SMTP, PostgreSQL, a line of nothing.
            (b"GET key\r\n", Guess::Bytes),
            (b"*1\r\n$4\r\nPING\r\n", Guess::Bytes),
            (b"get key\r\n", Guess::Bytes),
            (b"EHLO me\r\n", Guess::Bytes),
            (b"PING\r\n", Guess::Bytes),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Guess::Bytes),
            (b"\r\n", Guess::Bytes),
            (b" HTTP/1.1\r\n", Guess::Bytes),
            (b"GET  HTTP/1.1\r\n", Guess::Bytes),
            (b"GET /\0 HTTP/1.1\r\n", Guess::Bytes),
            (b"GET / HTTP/2.0\r\n", Guess::Bytes),
        ] {
            assert_eq!(guess(read), expected, "{:?}", String::from_utf8_lossy(read));
        }
        assert_eq!(guess(&[b'a'; LONGEST_LINE + 1]), Guess::Bytes);
    }

    proptest! {
        #[test]
        fn a_verdict_stays_when_more_comes(read in proptest::collection::vec(any::<u8>(), 1..80), n in 1usize..80) {
            let part = &read[..n.min(read.len())];
            let (early, late) = (guess(part), guess(&read));
            prop_assert!(early == Guess::More || early == late, "{early:?} became {late:?}");
        }
    }

    async fn pair() -> (TcpStream, Io) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Io::plain(listener.accept().await.unwrap().0))
    }

    fn told(told: Result<Told>) -> (How, Vec<u8>, Vec<u8>) {
        match told.unwrap() {
            Told::Bytes(b) => (b.how, b.client, b.server),
            Told::Http(speaks, _) => panic!("{speaks:?}"),
            Told::Gone => panic!("gone"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_speaks_first_is_heard_at_once() {
        let (_client, mut io) = pair().await;
        let (mut server, upstream) = pair().await;
        server.write_all(b"220 mail\r\n").await.unwrap();
        let began = tokio::time::Instant::now();
        let mut other = None;
        let came = race(&mut io, &mut other, async { Ok(upstream) }, false).await;
        assert_eq!(told(came), (How::ServerFirst, vec![], b"220 mail\r\n".to_vec()));
        assert!(other.is_some());
        assert_eq!(began.elapsed(), Duration::ZERO, "no timer was waited for");
    }

    #[tokio::test]
    async fn a_client_that_has_spoken_costs_no_call() {
        let (mut client, mut io) = pair().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        client.readable_by(&mut io).await;
        let called = std::cell::Cell::new(false);
        let open = async {
            called.set(true);
            std::future::pending().await
        };
        let Ok(Told::Http(Speaks::Http1, first)) = race(&mut io, &mut None, open, false).await else { panic!() };
        assert_eq!(first, b"GET / HTTP/1.1\r\n");
        assert!(!called.get());
    }

    trait ReadableBy {
        async fn readable_by(&self, io: &mut Io);
    }

    impl ReadableBy for TcpStream {
        async fn readable_by(&self, io: &mut Io) {
            io.readable().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_become_a_line_and_does_not_is_passed_on() {
        let (mut client, mut io) = pair().await;
        client.write_all(b"HELLO 1").await.unwrap();
        let mut other = None;
        let (_server, upstream) = pair().await;
        let came = race(&mut io, &mut other, async { Ok(upstream) }, false).await;
        assert_eq!(told(came), (How::Grace, b"HELLO 1".to_vec(), vec![]));
        assert!(other.is_some(), "the other side was called meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_server_that_is_not_there_is_told() {
        let (_client, mut io) = pair().await;
        let open = async { Err(crate::error::Kind::ConnectFailed.into()) };
        let failed = race(&mut io, &mut None, open, false).await;
        assert!(failed.is_err_and(|e| e.kind() == crate::error::Kind::ConnectFailed));
    }

    #[tokio::test(start_paused = true)]
    async fn where_clients_spoke_first_they_have_a_head_start_and_servers_are_heard_all_the_same() {
        let (_client, mut io) = pair().await;
        let (mut server, upstream) = pair().await;
        server.write_all(b"hello").await.unwrap();
        let began = tokio::time::Instant::now();
        let came = race(&mut io, &mut None, async { Ok(upstream) }, true).await;
        assert_eq!(told(came).0, How::ServerFirst);
        assert!((HEAD_START..HEAD_START * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_client_that_only_listens_is_carried_and_one_that_leaves_an_http_server_is_let_go() {
        for (client_first, expected) in [(false, true), (true, false)] {
            let (mut client, mut io) = pair().await;
            client.shutdown().await.unwrap();
            let came = race(&mut io, &mut None, std::future::pending(), client_first).await.unwrap();
            assert_eq!(matches!(came, Told::Bytes(_)), expected);
        }
    }
}
