//! A change of protocol on the same connection, of any kind, and `CONNECT`: bytes both ways, each half to its end.

use crate::{path, path_of, request};
use std::time::Duration;
use weir_tests::upstream::{OK, Step, Upstream};

fn switching(more: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: Chat/2\r\nX-Kept: y\r\n\r\n", more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_protocol_may_be_changed_to_and_bytes_on_either_side_of_the_change_arrive() {
    // The server speaks in the same breath as it agrees.
    let upstream = Upstream::start(|_| vec![Step::Send(switching(b"first")), Step::Echo]).await;
    let path = path(upstream).await;
    for token in ["Chat/2", "websocket", "foo/1, bar/2", "TLS/1.0"] {
        path.upstream.forget();
        let mut client = path.connect().await;
        let upgrade = format!("Upgrade: {token}");
        let head = request("GET /chat", &["Connection: keep-alive, Upgrade", &upgrade, "X-Mine: z"]);
        // And the client does not wait for the answer.
        let answer = client.ask("GET", [&head[..], b"early"].concat()).await;
        assert_eq!((answer.status(), answer.last.one("upgrade").as_deref()), (101, Some("Chat/2")), "{token}");
        assert_eq!(answer.last.one("x-kept").as_deref(), Some("y"));
        let connection = answer.last.one("connection").unwrap_or_default().to_ascii_lowercase();
        assert!(connection.split(',').any(|c| c.trim() == "upgrade"), "{connection}");
        assert_eq!(client.exactly(10).await.unwrap(), b"firstearly", "{token}");
        client.send([0, 1, 2, 0xff, b'\r', b'\n']).await;
        assert_eq!(client.exactly(6).await.unwrap(), [0, 1, 2, 0xff, b'\r', b'\n']);
        let seen = path.upstream.one();
        assert_eq!(seen.one("upgrade").as_deref(), Some(token), "{}", seen.shown());
        let asked = seen.one("connection").unwrap_or_default().to_ascii_lowercase();
        assert!(asked.split(',').any(|c| c.trim() == "upgrade"), "{}", seen.shown());
        // The client's half ends; the server still answers and ends its own.
        client.send("last").await.half_close().await;
        assert_eq!(client.rest(Duration::from_secs(10)).await.as_deref(), Some(&b"last"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_half_may_end_first() {
    let upstream =
        Upstream::start(|_| vec![Step::Send(switching(b"bye")), Step::HalfClose, Step::ReadPast(b"still heard")]).await;
    let path = path(upstream).await;
    let mut client = path.connect().await;
    let answer = client.ask("GET", request("GET /", &["Connection: Upgrade", "Upgrade: Chat/2"])).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(client.rest(Duration::from_secs(10)).await.as_deref(), Some(&b"bye"[..]), "the end of its half arrives");
    client.send("still heard").await;
    weir_tests::eventually("what the client says then arrives", 10, || async {
        path.upstream.conversations()[0].bytes.ends_with(b"still heard").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_change_answers_as_ever() {
    let path = path(Upstream::ok().await).await;
    let mut client = path.connect().await;
    for _ in 0..3 {
        let answer = client.ask("GET", request("GET /", &["Connection: Upgrade", "Upgrade: websocket"])).await;
        assert_eq!((answer.status(), &answer.last.body[..]), (200, &b"ok"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_not_asked_for_is_an_error_that_says_so() {
    let path = path(Upstream::start(|_| vec![Step::Send(switching(b"")), Step::Mute]).await).await;
    let answer = path.connect().await.ask("GET", request("GET /", &[])).await;
    assert_eq!(answer.status(), 502, "{}", answer.last.shown());
    let reason = answer.reason();
    assert!(matches!(reason.as_deref(), Some("upgrade_failed" | "upstream_protocol_error")), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_http_2_is_not_passed_on() {
    let path = path(Upstream::ok().await).await;
    let lines = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"];
    let answer = path.connect().await.ask("GET", request("GET /", &lines)).await;
    assert_eq!(answer.status(), 200);
    let seen = path.upstream.one();
    assert_eq!(seen.all("upgrade").len() + seen.all("http2-settings").len(), 0, "{}", seen.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_carries_bytes_and_each_half_ends_by_itself() {
    let upstream = Upstream::start(|_| vec![Step::Send(b"220 hello\r\n".to_vec()), Step::Echo]).await;
    let path = path_of("tcp", upstream, "").await;
    let mut client = path.connect().await;
    let answer = client.ask("CONNECT", "CONNECT server:8080 HTTP/1.1\r\nHost: server:8080\r\n\r\n").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.last.all("content-length").len() + answer.last.all("transfer-encoding").len(),
        0,
        "RFC 9110 §9.3.6"
    );
    client.send(b"EHLO x y\r\n\r\nmore").await;
    assert_eq!(client.exactly(15).await.unwrap(), b"220 hello\r\nmore");
    client.send("end").await.half_close().await;
    assert_eq!(client.rest(Duration::from_secs(10)).await.as_deref(), Some(&b"end"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_cannot_be_says_why_and_the_connection_goes_on() {
    let path = path(Upstream::start(|_| vec![Step::ReadBody, Step::Send(OK.to_vec())]).await).await;
    let mut client = path.connect().await;
    let answer = client.ask("POST", "CONNECT nobody:1 HTTP/1.1\r\nHost: nobody:1\r\n\r\n").await;
    assert_eq!((answer.status(), answer.reason().as_deref()), (404, Some("route_not_found")));
    assert_eq!(client.ask("GET", request("GET /", &[])).await.status(), 200);
}
