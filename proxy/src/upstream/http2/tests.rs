//! A connection against a peer that does what the test says.

use super::*;
use crate::upstream::{ConnectionCount, Io, connect::Alive};
use h2::{Reason, RecvStream, server};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const IDLE: Duration = Duration::from_secs(90);

type Peer = server::Connection<TcpStream, Bytes>;

/// A connection and its peer, with this window for a stream at the peer.
async fn pair(window: u32) -> (Connection, Peer, Arc<ConnectionCount>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(ConnectionCount::default());
    let ours = async {
        let io = Io::plain(TcpStream::connect(address).await.unwrap());
        let windows = Windows { stream: 256 * 1024, connection: 1024 * 1024 };
        open(io, address, windows, IDLE, || Alive::new(&count, None)).await.unwrap()
    };
    let theirs = async {
        let (tcp, _) = listener.accept().await.unwrap();
        server::Builder::new().initial_window_size(window).handshake::<_, Bytes>(tcp).await.unwrap()
    };
    let (ours, theirs) = tokio::join!(ours, theirs);
    (ours, theirs, count)
}

fn message(body: Body, interim: Option<Interim>) -> Message {
    let request = Request::post("http://a/x").body(body).unwrap();
    Box::new(Outgoing { request, spelling: None, interim })
}

async fn send(connection: &Connection, body: Body) -> Result<Exchange, Unsent> {
    let stream = Stream::start(&connection.state);
    connection.clone().send(message(body, None), stream, true).await
}

/// A body that somebody else sends, and that somebody.
async fn streamed() -> (h2::SendStream<Bytes>, Body) {
    let (a, b) = tokio::io::duplex(1024 * 1024);
    let client = async {
        let (mut sender, connection) = h2::client::handshake(a).await.unwrap();
        tokio::spawn(connection);
        let (answer, stream) = sender.send_request(Request::post("http://a/").body(()).unwrap(), false).unwrap();
        tokio::spawn(async move {
            let _answer = answer.await;
            drop(sender);
        });
        stream
    };
    let server = async {
        let mut connection = server::handshake(b).await.unwrap();
        let (request, respond) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move {
            let _respond = respond;
            while connection.accept().await.is_some() {}
        });
        Body::incoming(crate::http2::Incoming::new(request.into_body(), None))
    };
    tokio::join!(client, server)
}

/// A client that waits, and the way for interim responses to it.
async fn waiting() -> (h2::client::ResponseFuture, Interim) {
    let (a, b) = tokio::io::duplex(1024 * 1024);
    let client = async {
        let (mut sender, connection) = h2::client::handshake(a).await.unwrap();
        tokio::spawn(connection);
        let (answer, _) = sender.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
        // With something beside it, so that it is not taken for what this block waits for.
        (answer, sender)
    };
    let server = async {
        let mut connection = server::handshake(b).await.unwrap();
        let (_request, respond) = connection.accept().await.unwrap().unwrap();
        drive(connection);
        Interim::Http2(http2::Interim::new(respond, true))
    };
    let ((answer, _), interim) = tokio::join!(client, server);
    (answer, interim)
}

#[tokio::test]
async fn interim_responses_are_passed_on_and_too_many_are_a_fault() {
    in_time(Box::pin(async {
        let (ours, mut peer, _count) = pair(64 * 1024).await;
        let (mut client, interim) = waiting().await;
        let theirs = async {
            let (_request, mut respond) = peer.accept().await.unwrap().unwrap();
            for status in [100, 103] {
                respond
                    .send_informational(Response::builder().status(status).header("x", "1").body(()).unwrap())
                    .unwrap();
            }
            respond.send_response(Response::new(()), true).unwrap();
            let (_request, mut respond) = peer.accept().await.unwrap().unwrap();
            for _ in 0..=MAX_INTERIM {
                respond.send_informational(Response::builder().status(102).body(()).unwrap()).unwrap();
            }
            drive(peer);
            std::future::pending::<()>().await;
        };
        let mine = async {
            let send = async || {
                let stream = Stream::start(&ours.state);
                ours.clone().send(message(Body::Empty, Some(interim.clone())), stream, true).await
            };
            assert_eq!(send().await.ok().unwrap().response.status(), StatusCode::OK);
            assert_eq!(send().await.err().unwrap().error.kind(), Kind::UpstreamProtocolError);
        };
        tokio::select! { () = theirs => unreachable!(), () = mine => {} }
        for status in [100, 103] {
            let told = poll_fn(|cx| client.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!((told.status().as_u16(), told.headers()["x"].as_bytes()), (status, &b"1"[..]));
        }
    }))
    .await;
}

#[tokio::test]
async fn a_stream_counts_until_its_response_has_ended() {
    in_time(Box::pin(async {
        let (ours, mut peer, _count) = pair(64 * 1024).await;
        let theirs = async {
            let (_request, mut respond) = peer.accept().await.unwrap().unwrap();
            let rest = respond.send_response(Response::new(()), false).unwrap();
            drive(peer);
            rest
        };
        let (mut rest, exchange) = tokio::join!(theirs, send(&ours, Body::Empty));
        let response = exchange.ok().unwrap().response;
        assert_eq!(ours.streams(), 1);
        rest.send_data(Bytes::from_static(b"ok"), true).unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert_eq!(ours.streams(), 0);
    }))
    .await;
}

#[tokio::test]
async fn what_is_there_of_a_body_leaves_with_the_head_in_one_write() {
    in_time(Box::pin(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let io = Io::plain(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (peer, _) = listener.accept().await.unwrap();
        let windows = Windows { stream: 256 * 1024, connection: 1024 * 1024 };
        let count = Arc::new(ConnectionCount::default());
        let ours = open(io, peer.local_addr().unwrap(), windows, IDLE, || Alive::new(&count, None)).await.unwrap();
        let (mut source, body) = streamed().await;
        source.send_data(Bytes::from_static(b"all of it"), true).unwrap();
        settled().await;
        let mut before = [0; 4096];
        peer.try_read(&mut before).unwrap();

        let mut asked = Box::pin(send(&ours, body));
        assert!(poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await);
        // The connection's task, that is: the request is not polled again.
        settled().await;
        let mut read = [0; 4096];
        let n = peer.try_read(&mut read).unwrap();
        let head = 9 + u32::from_be_bytes([0, read[0], read[1], read[2]]) as usize;
        // RFC 9113 §4.1: length, type (DATA), flags (END_STREAM), stream.
        assert_eq!(read[head..n], *b"\0\0\x09\x00\x01\0\0\0\x01all of it", "{}", read[..n].escape_ascii());
    }))
    .await;
}

/// Every task has had its turns.
async fn settled() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Fails what would wait for ever.
async fn in_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("in time");
}

/// Drives the peer until its connection ends.
fn drive<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(
    mut peer: server::Connection<T, Bytes>,
) {
    tokio::spawn(async move { while peer.accept().await.is_some() {} });
}

async fn all(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut data = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        data.extend_from_slice(&piece);
    }
    (data, body.trailers().await.unwrap())
}

fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-end"), HeaderValue::from_static(value))])
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways_and_the_answer_may_begin_first() {
    let (ours, mut peer, _count) = pair(64 * 1024).await;
    let (mut caller, body) = streamed().await;
    let theirs = async {
        let (request, mut respond) = peer.accept().await.unwrap().unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/x"));
        respond.send_informational(Response::builder().status(103).body(()).unwrap()).unwrap();
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        drive(peer);
        // The caller goes on only after the answer has begun.
        let (data, end) = all(request.into_body()).await;
        answer.send_data(Bytes::from(data), false).unwrap();
        answer.send_trailers(end.unwrap()).unwrap();
    };
    let exchange = async {
        let exchange = send(&ours, body).await.ok().unwrap();
        assert_eq!(exchange.response.status(), StatusCode::OK, "103 is not passed on");
        caller.send_data(Bytes::from_static(b"hello"), false).unwrap();
        caller.send_trailers(trailers("1")).unwrap();
        let whole = exchange.response.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["x-end"], "1");
        assert_eq!(&whole.to_bytes()[..], b"hello");
    };
    tokio::join!(theirs, exchange);
    assert_eq!(ours.streams(), 0, "the stream was counted until its end");
}

#[tokio::test]
async fn a_small_window_slows_an_upload_and_loses_nothing() {
    let (ours, mut peer, _count) = pair(1024).await;
    let (mut caller, body) = streamed().await;
    let sent: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    caller.send_data(Bytes::from(sent.clone()), true).unwrap();
    let theirs = async {
        let (request, mut respond) = peer.accept().await.unwrap().unwrap();
        drive(peer);
        let (data, _) = all(request.into_body()).await;
        respond.send_response(Response::new(()), true).unwrap();
        data
    };
    let (got, exchange) = tokio::join!(theirs, send(&ours, body));
    assert!(got == sent && exchange.is_ok());
}

#[tokio::test]
async fn what_was_not_processed_is_told_from_what_was_reset() {
    for (reason, kind, safe) in [
        (Reason::REFUSED_STREAM, Kind::UpstreamRefused, true),
        (Reason::CANCEL, Kind::UpstreamReset, false),
        (Reason::INTERNAL_ERROR, Kind::UpstreamReset, false),
    ] {
        let (ours, mut peer, _count) = pair(64 * 1024).await;
        let theirs = async {
            let (_request, mut respond) = peer.accept().await.unwrap().unwrap();
            respond.send_reset(reason);
            drive(peer);
        };
        let (_, answer) = tokio::join!(theirs, send(&ours, Body::Empty));
        let unsent = answer.err().unwrap();
        assert_eq!((unsent.error.kind(), unsent.error.retry().is_always_safe()), (kind, safe), "{reason:?}");
        assert!(unsent.message.is_none());
    }
}

#[tokio::test]
async fn above_the_last_stream_of_a_goaway_nothing_was_processed() {
    for reason in [0u8, 11] {
        // By hand: a server that names the last stream. SETTINGS, then GOAWAY with stream 1 as the last.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (headers, mut written) = (tokio::sync::Notify::new(), 0);
        let theirs = async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut tcp, _) = listener.accept().await.unwrap();
            tcp.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            headers.notified().await;
            let mut buffer = [0; 4096];
            // Both requests are here when streams 1 and 3 were seen.
            while written < 2 {
                let n = tcp.read(&mut buffer).await.unwrap();
                written += buffer[..n].windows(6).filter(|w| w[0] == 1 && matches!(w[2..], [0, 0, 0, 1 | 3])).count();
            }
            tcp.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, reason]).await.unwrap();
            // `:status: 204` for stream 1, with its end.
            tcp.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89]).await.unwrap();
            while tcp.read(&mut buffer).await.unwrap_or(0) > 0 {}
        };
        let ours = async {
            let windows = Windows { stream: 65_535, connection: 1024 * 1024 };
            let count = Arc::new(ConnectionCount::default());
            let io = Io::plain(TcpStream::connect(address).await.unwrap());
            let ours = open(io, address, windows, IDLE, || Alive::new(&count, None)).await.unwrap();
            headers.notify_one();
            let (first, second) = tokio::join!(send(&ours, Body::Empty), send(&ours, Body::Empty));
            assert_eq!(first.ok().unwrap().response.status(), 204, "at or below the last one it is answered");
            let error = second.err().unwrap().error;
            assert_eq!(error.kind(), Kind::UpstreamRefused, "{reason}");
            assert!(error.retry().is_always_safe());
            // A further one is not sent, and comes back whole.
            let unsent = send(&ours, Body::Empty).await.err().unwrap();
            assert_eq!(unsent.error.kind(), Kind::StaleConnection);
            assert!(unsent.message.is_some() && ours.is_closed());
        };
        tokio::join!(theirs, ours);
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_is_reset_and_so_is_an_abandoned_exchange() {
    in_time(Box::pin(async {
        let (ours, mut peer, _count) = pair(64 * 1024).await;
        let (_caller, body) = streamed().await;
        let given_up = async {
            tokio::select! {
                _ = send(&ours, body) => unreachable!("nobody answers"),
                accepted = peer.accept() => accepted.unwrap().unwrap(),
            }
        };
        let (_request, mut respond) = given_up.await;
        let ours_again = ours.clone();
        let (_caller, body) = streamed().await;
        let abandoned = tokio::spawn(async move { drop(send(&ours_again, body).await.ok().unwrap()) });
        let reason = tokio::select! {
            reason = std::future::poll_fn(|cx| respond.poll_reset(cx)) => reason.unwrap(),
            accepted = peer.accept() => {
                // The next request: answered without an end, upload open.
                let (_request, mut second) = accepted.unwrap().unwrap();
                let mut answer = second.send_response(Response::new(()), false).unwrap();
                let reset = std::future::poll_fn(|cx| answer.poll_reset(cx));
                let reason = tokio::select! { reason = reset => reason.unwrap(), _ = peer.accept() => unreachable!() };
                assert_eq!(reason, Reason::CANCEL);
                std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()
            }
        };
        assert_eq!(reason, Reason::CANCEL);
        let _ = abandoned.await;
        assert_eq!(ours.streams(), 0);
    }))
    .await;
}

#[tokio::test]
async fn a_caller_that_breaks_off_is_not_the_endpoints_failure() {
    in_time(Box::pin(async {
        let (ours, mut peer, _count) = pair(64 * 1024).await;
        let (mut caller, body) = streamed().await;
        let theirs = async {
            let (_request, mut respond) = peer.accept().await.unwrap().unwrap();
            caller.send_reset(Reason::CANCEL);
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
            tokio::select! { reason = reset => reason.unwrap(), _ = peer.accept() => unreachable!() }
        };
        let (reason, answer) = tokio::join!(theirs, send(&ours, body));
        assert_eq!(reason, Reason::CANCEL);
        assert_eq!(answer.err().unwrap().error.kind(), Kind::ClientDisconnected);
    }))
    .await;
}

#[tokio::test]
async fn a_silent_peer_is_asked_and_then_given_up() {
    let (ours, mut peer, count) = pair(64 * 1024).await;
    let waiting = tokio::spawn({
        let ours = ours.clone();
        async move { send(&ours, Body::Empty).await }
    });
    let accepted = peer.accept().await.unwrap().unwrap();
    // From here on the peer reads nothing.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let error = waiting.await.unwrap().err().unwrap().error;
    assert_eq!(error.kind(), Kind::UpstreamClosed);
    assert!((29..32).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(ours.is_closed());
    drop(accepted);
    assert_eq!(count.open(), 0);
}

#[tokio::test]
async fn a_peer_that_answers_pings_may_take_its_time() {
    let (ours, mut peer, _count) = pair(64 * 1024).await;
    let waiting = tokio::spawn({
        let ours = ours.clone();
        async move { send(&ours, Body::Empty).await }
    });
    let (_request, mut respond) = peer.accept().await.unwrap().unwrap();
    drive(peer);
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(!waiting.is_finished());
    respond.send_response(Response::new(()), true).unwrap();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_nobody_uses_or_holds_ends() {
    let (ours, peer, count) = pair(64 * 1024).await;
    drive(peer);
    tokio::time::pause();
    tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
    assert!(!ours.is_closed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(ours.is_closed() && count.open() == 0);

    tokio::time::resume();
    let (ours, mut peer, count) = pair(64 * 1024).await;
    drop(ours);
    assert!(peer.accept().await.is_none(), "the peer is told");
    while count.open() > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_http2_forbids_is_taken_away_and_a_length_is_said() {
    let mut head = Request::post("http://a/").body(()).unwrap();
    for (name, value) in [("connection", "x"), ("keep-alive", "1"), ("te", "gzip"), ("x-mine", "1")] {
        head.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    prepare(&mut head, &Body::Empty);
    let left: Vec<_> = head.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(left, [("x-mine", "1"), ("content-length", "0")]);
    let mut head = Request::get("http://a/").body(()).unwrap();
    prepare(&mut head, &Body::Empty);
    assert!(head.headers().is_empty());
}
