//! What is served on one connection, to the byte; and that silent connections are small, and drained gently.

use super::*;
use crate::{
    http1::Spelling,
    io::{Ahead, Io},
    listen::{detect::Speaks, http::Answering},
    reply,
    tls::{
        self,
        testing::{Authority, Wish, id},
    },
};
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Answers by the path: `/echo` with the request's body, `/hints` after interim responses, `/never` not at all, and
/// everything else with nothing.
#[derive(Clone)]
struct Pages;

impl Answer for Pages {
    fn answer(&self, request: Request<Incoming>, spelling: Option<Spelling>) -> Answering<'_> {
        let interim = request.body().interim().unwrap();
        Box::pin(async move {
            match request.uri().path() {
                "/echo" => {
                    let mut response = Response::new(ResponseBody::incoming(request.into_body()));
                    response.body_mut().spelt(spelling.unwrap());
                    response.headers_mut().insert("x-own", HeaderValue::from_static("1"));
                    response
                }
                "/hints" => {
                    interim.send(StatusCode::EARLY_HINTS, &HeaderMap::new(), None);
                    interim.send(StatusCode::CONTINUE, &HeaderMap::new(), None);
                    tokio::task::yield_now().await;
                    let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
                    interim.send(StatusCode::CONTINUE, &HeaderMap::new(), None);
                    Response::new(ResponseBody::full(body))
                }
                "/held" => {
                    tokio::spawn(async move {
                        std::future::pending::<()>().await;
                        drop(interim);
                    });
                    reply::status(StatusCode::OK)
                }
                "/said" => Response::new(ResponseBody::full("said")),
                "/never" => std::future::pending().await,
                _ => reply::status(StatusCode::OK),
            }
        })
    }

    fn refuse(&self, error: &Error) -> Response {
        reply::error(error, false)
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

async fn connection() -> (TcpStream, Io) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, served) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), Io::plain(served.unwrap().0))
}

async fn served() -> (TcpStream, drain::Trigger, JoinHandle<()>) {
    let (client, io) = connection().await;
    let (trigger, watch) = drain::channel();
    let serving = crate::listen::http::serve(io, Vec::new(), Speaks::Http1, Pages, watch);
    (client, trigger, tokio::spawn(serving))
}

async fn answered(client: &mut TcpStream) -> String {
    until(client, "\r\n\r\n").await
}

async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

/// All that comes until the connection is closed.
async fn all(client: &mut TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What comes of `request`, after which the client says no more.
async fn exchange(request: &[u8]) -> String {
    let (mut client, _trigger, serving) = served().await;
    client.write_all(request).await.unwrap();
    client.shutdown().await.unwrap();
    let answer = all(&mut client).await;
    serving.await.unwrap();
    answer
}

/// Over TLS an end without its own word for it (close_notify) could be anybody's: what reads to it would be an error.
#[tokio::test]
async fn over_tls_the_client_is_told_of_the_end() {
    for (close, shuts) in [("Connection: close\r\n", false), ("", true)] {
        let authority = Authority::new("root");
        let contexts = Arc::new(tls::Contexts::default());
        contexts.update(&authority.credentials(&Wish::of(&id("api"))), &authority.bundle()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (limit, allowed) = (Duration::from_secs(10), [id("api")]);
        let (client, server) = (tls::Client::new(contexts.clone(), limit), tls::Server::new(contexts, limit));
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let served = Ahead::new(listener.accept().await.unwrap().0);
        let (connected, accepted) =
            tokio::join!(client.connect(tcp, "api", &allowed, &[tls::Alpn::Http1]), server.accept(served, |_| true));
        let (mut client, io) = (connected.unwrap().0, Io::server(accepted.unwrap().0));
        let (_trigger, watch) = drain::channel();
        let serving = tokio::spawn(crate::listen::http::serve(io, Vec::new(), Speaks::Http1, Pages, watch));
        client.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes()).await.unwrap();
        if shuts {
            client.shutdown().await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn it_is_closed_whoever_still_holds_it() {
    let (mut client, _trigger, _serving) = served().await;
    client.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), all(&mut client)).await.expect("it is closed");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn requests_behind_one_another_are_answered_in_their_order_also_after_a_half_close() {
    let echo = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked =
        b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nSum: 3\r\n\r\n";
    let answer = exchange(&[REQUEST, echo, chunked, REQUEST].concat()).await;
    let expected = [
        EMPTY,
        "HTTP/1.1 200 OK\r\nx-own: 1\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nx-own: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nsum: 3\r\n\r\n",
        EMPTY,
    ];
    assert_eq!(answer, expected.concat());
}

#[tokio::test]
async fn names_are_spelt_as_they_came() {
    let answer = exchange(b"POST /echo HTTP/1.1\r\nHost: a\r\nX-OWN: 2\r\nContent-Length: 1\r\n\r\nx").await;
    assert!(answer.contains("\r\nX-OWN: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn interim_responses_come_first_and_nobody_is_told_to_go_on_twice_or_unasked() {
    let head = "POST /hints HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n";
    let (mut client, _trigger, _) = served().await;
    client.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let interim = until(&mut client, "100 Continue\r\n\r\n").await;
    assert_eq!(interim, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"ab").await.unwrap();
    assert_eq!(until(&mut client, "ab").await, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab");
    let unasked = exchange(format!("{head}\r\nab").as_bytes()).await;
    assert_eq!(unasked, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab");
}

#[tokio::test]
async fn a_client_that_was_not_told_to_send_its_body_is_told_that_the_connection_ends() {
    let (mut client, _trigger, serving) = served().await;
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(request).await.unwrap();
    assert_eq!(all(&mut client).await, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_is_read_over_and_a_large_one_ends_the_connection() {
    let small = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(exchange(&[&small[..], REQUEST].concat()).await, [EMPTY, EMPTY].concat());
    let (mut client, _trigger, serving) = served().await;
    let large = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", DISCARD * 4);
    client.write_all(large.as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; DISCARD * 4]).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    // The one response, whole, though more had come than was read.
    assert_eq!(all(&mut client).await, EMPTY);
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn what_is_no_request_is_refused_by_name_and_ends_the_connection() {
    for (bad, status) in [
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("\x16\x03\x01\x02", "400"),
        (&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)), "431"),
    ] {
        let answer = exchange(&[bad.as_bytes(), REQUEST].concat()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("weir-reason: ") && answer.contains("connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn versions_and_methods_have_their_own_endings() {
    let old = exchange(b"GET /said HTTP/1.0\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(old, "HTTP/1.0 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsaid");
    let kept = exchange(b"GET /said HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(kept, "HTTP/1.0 200 OK\r\ncontent-length: 4\r\nconnection: keep-alive\r\n\r\nsaid");
    let head = exchange(b"HEAD /said HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(head, "HTTP/1.1 200 OK\r\n\r\n");
    let closed = exchange(b"GET /said HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(closed, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsaid");
}

#[tokio::test]
async fn a_body_that_breaks_off_or_breaks_the_rules_breaks_the_response() {
    for bad in ["Content-Length: 9\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello5\r\n"] {
        let answer = exchange(format!("POST /echo HTTP/1.1\r\nHost: a\r\n{bad}").as_bytes()).await;
        assert!(answer.ends_with("hello") || answer.ends_with("hello\r\n"), "{answer}");
        // Nothing behind it is a request.
        let bad = bad.replace('9', "900");
        let hidden = format!("POST / HTTP/1.1\r\nHost: a\r\n{bad}GET / HTTP/1.1\r\n\r\n");
        assert_eq!(exchange(hidden.as_bytes()).await.matches("HTTP/1.1").count(), 1, "{bad}");
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_not_waited_for() {
    let (mut client, _trigger, serving) = served().await;
    client.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // A reset, not a half-close.
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn headers_that_trickle_have_their_time_and_silence_has_all_of_it() {
    let (mut client, _trigger, serving) = served().await;
    client.write_all(REQUEST).await.unwrap();
    answered(&mut client).await;
    tokio::time::pause();
    tokio::time::advance(HEADERS_TIMEOUT * 2).await;
    tokio::time::resume();
    client.write_all(&REQUEST[..7]).await.unwrap();
    // It is read before time passes: the runtime looks at its sockets every 61 turns.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let answer = all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("weir-reason: client_timeout"), "{answer}");
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_drain_lets_a_silent_connection_send_one_more_request_and_then_closes_it() {
    let (mut client, trigger, serving) = served().await;
    client.write_all(REQUEST).await.unwrap();
    assert!(!answered(&mut client).await.contains("connection: close"));
    trigger.begin();
    client.write_all(REQUEST).await.unwrap();
    assert!(answered(&mut client).await.contains("connection: close"));
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_drain_closes_a_silent_connection() {
    let (mut client, trigger, serving) = served().await;
    client.write_all(REQUEST).await.unwrap();
    answered(&mut client).await;
    tokio::time::pause();
    assert!(trigger.drain(LINGER * 2).await);
    serving.await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

/// What a silent connection keeps; ten thousand of them are to fit into ten megabytes.
#[tokio::test]
async fn a_silent_connection_is_small() {
    let (_client, io) = connection().await;
    let (_trigger, watch) = drain::channel();
    let size = size_of_val(&crate::listen::http::serve(io, Vec::new(), Speaks::Http1, Pages, watch));
    let conn = size_of::<http1::Conn>();
    assert!(size + conn <= 1600, "{size} bytes, and {conn}");
}
