//! HTTP/1.0 on either side.

use crate::{path, request};
use std::time::Duration;
use weir_tests::upstream::{Step, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_an_answer_that_ends_with_the_connection() {
    let upstream = Upstream::start(|request| {
        let answer: &[u8] = match request.word().as_str() {
            "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        };
        vec![Step::ReadBody, Step::Send(answer.to_vec())]
    })
    .await;
    let path = path(upstream).await;
    for target in ["/chunked", "/length"] {
        let mut client = path.connect().await;
        client.send(format!("GET {target} HTTP/1.0\r\nHost: server:8080\r\n\r\n")).await;
        let all = client.rest(Duration::from_secs(10)).await.expect("the connection ends");
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(text.starts_with("HTTP/1.0 200 ") || text.starts_with("HTTP/1.1 200 "), "{text}");
        assert!(text.ends_with("\r\n\r\nabc"), "no chunks for HTTP/1.0: {text}");
        assert!(!text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_may_keep_its_connection() {
    let path = path(Upstream::ok().await).await;
    let mut client = path.connect().await;
    for n in 0..3 {
        let asked =
            format!("POST /{n} HTTP/1.0\r\nHost: server:8080\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi");
        let answer = client.ask("POST", asked).await;
        assert_eq!(answer.status(), 200);
        let connection = answer.last.one("connection").unwrap_or_default();
        assert!(connection.eq_ignore_ascii_case("keep-alive"), "it is told so: {}", answer.last.shown());
    }
    assert_eq!(path.upstream.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_host_http_1_0_says_where_it_goes_by_the_absolute_form_or_is_refused() {
    let path = path(Upstream::ok().await).await;
    let answer = path.connect().await.ask("GET", "GET http://server:8080/x HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(path.upstream.one().one("host").as_deref(), Some("server:8080"));
    let answer = path.connect().await.ask("GET", "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status(), answer.reason().as_deref()), (400, Some("bad_request")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_http_1_0_is_asked_like_any_other() {
    let upstream = Upstream::start(|request| {
        let answer: &[u8] = match request.word().as_str() {
            "/keep" => b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            _ => b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        let end = if request.word() == "/keep" { vec![] } else { vec![Step::Close] };
        [vec![Step::ReadBody, Step::Send(answer.to_vec())], end].concat()
    })
    .await;
    let path = path(upstream).await;
    let mut client = path.connect().await;
    for n in 0..10 {
        let target = if n % 3 == 0 { "/keep" } else { "/plain" };
        let answer = client.ask("GET", request(&format!("GET {target}"), &[])).await;
        assert_eq!((answer.status(), &answer.last.body[..]), (200, &b"ok"[..]), "{n}");
        assert_eq!(answer.last.line(), "HTTP/1.1 200 OK", "each hop says its own version");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_closes_after_the_answer() {
    let path = path(Upstream::ok().await).await;
    let mut client = path.connect().await;
    let answer = client.ask("GET", request("GET /", &["Connection: close"])).await;
    assert_eq!(answer.last.one("connection").map(|c| c.to_ascii_lowercase()).as_deref(), Some("close"));
    assert_eq!(client.rest(Duration::from_secs(10)).await.as_deref(), Some(&b""[..]));
    assert_eq!(path.upstream.one().all("connection"), Vec::<String>::new(), "it is this connection's business");
}
