//! `Expect: 100-continue` from end to end, and the other 1xx: relayed when they come, never invented.

use crate::{Path, SILENCE, path, request};
use weir_tests::{
    frames::{END_HEADERS, END_STREAM, Frames, block, frame, kind, pseudo, status},
    upstream::{OK, Step, Upstream},
};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn expecting() -> Vec<u8> {
    request("POST /upload", &["Content-Length: 5", "Expect: 100-continue"])
}

async fn path_with(steps: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> Path {
    path(Upstream::start(move |_| steps()).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_is_the_server_s_word_and_relayed_when_it_comes() {
    let steps = || vec![Step::Hold, Step::Send(CONTINUE.to_vec()), Step::ReadBody, Step::Send(OK.to_vec())];
    let path = path_with(steps).await;
    let mut client = path.connect().await;
    client.send(expecting()).await;
    let seen = weir_tests::eventually("the head arrives", 10, || async { path.upstream.requests().pop() }).await;
    assert_eq!(seen.one("expect").as_deref(), Some("100-continue"), "{}", seen.shown());
    assert!(client.is_silent(SILENCE).await, "nobody says 100 before the server does");
    path.upstream.release();
    assert_eq!(client.head().await.unwrap().word(), "100");
    let answer = client.ask("POST", "hello").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(path.upstream.whole(0).await.body, b"hello");
    // The same connection, again.
    client.send(expecting()).await;
    weir_tests::eventually("the second arrives", 10, || async { path.upstream.requests().into_iter().nth(1) }).await;
    path.upstream.release();
    assert_eq!(client.head().await.unwrap().word(), "100");
    assert_eq!(client.ask("POST", "world").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_instead_of_a_hundred_arrives_and_the_body_stays_at_home() {
    let steps = || vec![Step::Send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_vec()), Step::Mute];
    let path = path_with(steps).await;
    let mut client = path.connect().await;
    let answer = client.ask("POST", expecting()).await;
    assert_eq!((answer.status(), answer.interim.len()), (401, 0));
    // The client keeps its body and the sidecar cannot tell where the next request begins: the connection ends.
    assert_eq!(client.rest(std::time::Duration::from_secs(10)).await.as_deref(), Some(&b""[..]));
    assert!(path.upstream.one().body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_wait_is_served_too() {
    let path = path_with(|| vec![Step::ReadBody, Step::Send(OK.to_vec())]).await;
    let mut client = path.connect().await;
    let answer = client.ask("POST", [expecting(), b"hello".to_vec()].concat()).await;
    assert_eq!((answer.status(), answer.interim.len()), (200, 0), "the server said no 100, so nobody did");
    assert_eq!(path.upstream.whole(0).await.body, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_come_before_the_answer_with_their_fields() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>; rel=preload\r\n\r\n";
    let path = path_with(move || vec![Step::Send(hints.to_vec()), Step::Hold, Step::Send(OK.to_vec())]).await;
    let mut client = path.connect().await;
    client.send(request("GET /", &[])).await;
    let early = client.head().await.unwrap();
    assert_eq!(early.word(), "103", "{}", early.shown());
    assert_eq!(early.all("link"), ["</a.css>; rel=preload", "</b.js>; rel=preload"]);
    path.upstream.release();
    assert_eq!(client.answer("GET").await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_of_them_come_in_their_order_and_the_next_request_is_not_confused() {
    let interim =
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n";
    let all = [&interim[..], OK].concat();
    let path = path_with(move || vec![Step::ReadBody, Step::Send(all.clone())]).await;
    let mut client = path.connect().await;
    for _ in 0..3 {
        let answer = client.ask("GET", request("GET /", &[])).await;
        assert_eq!((answer.status(), answer.interim_statuses()), (200, vec!["102".into(), "102".into(), "103".into()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_none_of_them() {
    let all = [&b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"[..], OK].concat();
    let path = path_with(move || vec![Step::ReadBody, Step::Send(all.clone())]).await;
    let answer = path.connect().await.ask("GET", "GET / HTTP/1.0\r\nHost: server:8080\r\n\r\n").await;
    assert_eq!((answer.status(), answer.interim.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_2_gets_them_too() {
    let all = [&b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"[..], OK].concat();
    let path = path_with(move || vec![Step::ReadBody, Step::Send(all.clone())]).await;
    let mut client = Frames::connect(path.client.outbound, &[]).await;
    let head = block(&pseudo("GET", "/"));
    client.send(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &head)).await.unwrap();
    let frames = client.stream(1).await;
    let heads: Vec<_> = frames.iter().filter(|f| f.kind == kind::HEADERS).map(|f| &f.payload).collect();
    // `:status` of the static table, and 103 in Huffman's code: five bits, five bits, six bits.
    assert!(heads[0].starts_with(&[0x48, 0x82, 0b0000_1000, 0b0001_1001]), "{frames:?}");
    assert_eq!((heads.len(), status(heads[1])), (2, Some(200)), "{frames:?}");
}
