//! What is told of first bytes, and who is waited for.

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

#[tokio::test(start_paused = true)]
async fn a_call_that_is_under_way_when_the_client_speaks_is_not_broken_off() {
    let ((mut client, mut io), (_server, upstream)) = (pair().await, pair().await);
    let (calling, called) = tokio::sync::oneshot::channel();
    let open = async {
        let _ = calling.send(());
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(upstream)
    };
    let speaks = async {
        called.await.unwrap();
        client.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
    };
    let mut other = None;
    let (came, ()) = tokio::join!(race(&mut io, &mut other, open, false), speaks);
    assert_eq!(told(came).0, How::ClientBytes);
    assert!(other.is_some());
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
