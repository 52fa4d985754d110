//! A WebSocket over HTTP/2 (RFC 8441): extended `CONNECT` from the client, an upgrade of HTTP/1.1 for the server.

use crate::{Path, path};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use std::time::Duration;
use weir_tests::upstream::{OK, Step, Upstream};

type Sender = h2::client::SendRequest<Bytes>;

/// A connection whose server has said that it takes extended `CONNECT`.
async fn connect(path: &Path) -> Sender {
    let tcp = tokio::net::TcpStream::connect(path.client.outbound).await.expect("a connection");
    let (sender, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut sender = sender.ready().await.expect("HTTP/2");
    weir_tests::eventually("SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)", 5, || {
        let enabled = sender.is_extended_connect_protocol_enabled();
        std::future::ready(enabled.then_some(()))
    })
    .await;
    sender = sender.ready().await.expect("HTTP/2");
    sender
}

fn extended(protocol: &'static str) -> http::Request<()> {
    let mut request = http::Request::builder()
        .method("CONNECT")
        .uri("http://server:8080/chat?room=1")
        .version(http::Version::HTTP_2)
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .expect("a request");
    request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    request
}

/// What a server answers to a key (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

async fn next(body: &mut h2::RecvStream) -> Option<Bytes> {
    let data = tokio::time::timeout(Duration::from_secs(10), body.data()).await.expect("in time")?.expect("bytes");
    let _ = body.flow_control().release_capacity(data.len());
    Some(data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http_2_reaches_a_server_of_http_1() {
    let upstream = Upstream::start(|request| {
        let lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Connection: Upgrade",
            "Upgrade: websocket",
            &format!("Sec-WebSocket-Accept: {}", accept(&request.one("sec-websocket-key").unwrap_or_default())),
            "Sec-WebSocket-Protocol: chat",
            "",
            "hi",
        ];
        vec![Step::Send(lines.join("\r\n").into_bytes()), Step::Echo]
    })
    .await;
    let path = path(upstream).await;
    let mut sender = connect(&path).await;
    let (response, mut send) = sender.send_request(extended("websocket"), false).expect("it is sent");
    let response = tokio::time::timeout(Duration::from_secs(10), response).await.expect("in time").expect("an answer");
    assert_eq!(response.status(), 200, "RFC 8441 §5: {response:?}");
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    // The key and its answer are the business of the two that speak HTTP/1.1.
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    assert!(!response.headers().contains_key("upgrade") && !response.headers().contains_key("connection"));
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.as_deref(), Some(&b"hi"[..]));
    let seen = path.upstream.one();
    assert_eq!(seen.line(), "GET /chat?room=1 HTTP/1.1", "{}", seen.shown());
    assert_eq!(seen.one("upgrade").as_deref(), Some("websocket"));
    assert!(seen.one("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")), "{}", seen.shown());
    assert_eq!(seen.one("sec-websocket-protocol").as_deref(), Some("chat"));
    let key = seen.one("sec-websocket-key").expect("RFC 6455 §4.1 wants a key, which HTTP/2 does not carry");
    assert_eq!(key.len(), 24, "sixteen bytes in base64: {key}");
    send.send_data(Bytes::from_static(b"over there"), false).expect("it is sent");
    let mut back = vec![];
    while back.len() < 10 {
        back.extend_from_slice(&next(&mut body).await.expect("it comes back"));
    }
    assert_eq!(back, b"over there");
    // The client's half ends; the server ends its own, and the stream with it.
    send.send_data(Bytes::from_static(b"end"), true).expect("it is sent");
    assert_eq!(next(&mut body).await.as_deref(), Some(&b"end"[..]));
    assert!(next(&mut body).await.is_none_or(|last| last.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_change_is_heard() {
    let path = path(Upstream::start(|_| vec![Step::Send(OK.to_vec())]).await).await;
    let mut sender = connect(&path).await;
    let (response, _send) = sender.send_request(extended("websocket"), false).expect("it is sent");
    let response = tokio::time::timeout(Duration::from_secs(10), response).await.expect("in time").expect("an answer");
    // 200 would say that the WebSocket is open (RFC 8441 §5).
    assert!(!response.status().is_success(), "{response:?}");
}
