//! Header fields: what is carried untouched, what is taken away, what is added.

use crate::{path, request};
use weir_tests::{
    message::text,
    upstream::{Step, Upstream},
};

#[tokio::test(flavor = "multi_thread")]
async fn values_are_carried_byte_for_byte() {
    let path = path(Upstream::ok().await).await;
    let long = format!("X-Long: {}", "v".repeat(16_000));
    let lines = [
        "X-Empty:",
        "X-Spaces-In: a  b\t c",
        "X-Quoted: \"a, b\"; c=\"\\\"\"",
        "X-Punctuation: !#$%&'()*+,-./:;<=>?@[]^_`{|}~",
        &long,
    ];
    let mut sent = request("GET /", &lines);
    sent.truncate(sent.len() - 2);
    sent.extend_from_slice(b"X-Latin: caf\xe9 \xff\x80\r\nX-Utf8: \xe2\x82\xac\r\nX-Padded:  \t a \t \r\n\r\n");
    assert_eq!(path.connect().await.ask("GET", sent).await.status(), 200);
    let seen = path.upstream.one();
    for (name, value) in [
        ("x-empty", ""),
        ("x-spaces-in", "a  b\t c"),
        ("x-quoted", "\"a, b\"; c=\"\\\"\""),
        ("x-punctuation", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"),
        ("x-padded", "a"),
    ] {
        assert_eq!(seen.one(name).as_deref(), Some(value), "{name} in {}", seen.shown());
    }
    assert_eq!(seen.one("x-latin"), Some(text(b"caf\xe9 \xff\x80")));
    assert_eq!(seen.one("x-utf8"), Some(text(b"\xe2\x82\xac")));
    assert_eq!(seen.one("x-long").map(|v| v.len()), Some(16_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_answer_are_carried_byte_for_byte() {
    let answer = b"HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Latin: caf\xe9 \xff\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: mine\r\nContent-Length: 0\r\n\r\n";
    let path = path(Upstream::start(move |_| vec![Step::Send(answer.to_vec())]).await).await;
    let answer = path.connect().await.ask("GET", request("GET /", &[])).await.last;
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"]);
    assert_eq!(answer.one("x-empty").as_deref(), Some(""));
    assert_eq!(answer.one("x-latin"), Some(text(b"caf\xe9 \xff")));
    assert_eq!(answer.all("server"), ["mine"]);
    assert_eq!(answer.all("date"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_one_name_stay_apart_and_in_their_order() {
    let path = path(Upstream::ok().await).await;
    let lines = ["Accept: a", "X-Many: 1, 2", "Cookie: a=1", "Accept: b", "X-Many: 3", "Cookie: b=2"];
    path.connect().await.ask("GET", request("GET /", &lines)).await;
    let seen = path.upstream.one();
    assert_eq!(seen.all("accept"), ["a", "b"]);
    assert_eq!(seen.all("x-many"), ["1, 2", "3"]);
    assert_eq!(seen.all("cookie"), ["a=1", "b=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_hop_goes_no_further() {
    let answer = b"HTTP/1.1 200 OK\r\nConnection: X-Back\r\nX-Back: 1\r\nKeep-Alive: timeout=60\r\nX-Stays: 2\r\nContent-Length: 0\r\n\r\n";
    let path = path(Upstream::start(move |_| vec![Step::Send(answer.to_vec())]).await).await;
    let lines = [
        "Connection: keep-alive, X-Mine",
        "X-Mine: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: gzip",
        "X-Stays: 2",
    ];
    let answer = path.connect().await.ask("GET", request("GET /", &lines)).await.last;
    let seen = path.upstream.one();
    for gone in ["x-mine", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(seen.all(gone), Vec::<String>::new(), "{gone} in {}", seen.shown());
    }
    assert_eq!(seen.one("x-stays").as_deref(), Some("2"));
    assert_eq!(answer.all("x-back"), Vec::<String>::new(), "{}", answer.shown());
    assert_ne!(answer.one("keep-alive").as_deref(), Some("timeout=60"), "the application's promise is not ours");
    assert_eq!(answer.one("x-stays").as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_fields_are_added_to_a_request_and_no_other() {
    let path = path(Upstream::ok().await).await;
    path.connect().await.ask("GET", request("GET /", &["Accept: */*"])).await;
    let seen = path.upstream.one();
    let mut names: Vec<String> = seen.names().into_iter().map(|n| n.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["accept", "host", "traceparent", "x-forwarded-client-cert", "x-request-id"], "{}", seen.shown());
    assert_eq!(seen.one("x-forwarded-client-cert").as_deref(), Some("URI=spiffe://weir.local/ns/default/sa/client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_added_to_an_answer() {
    let path = path(Upstream::ok().await).await;
    let answer = path.connect().await.ask("GET", request("GET /", &[])).await.last;
    let names: Vec<String> = answer.names().into_iter().map(|n| n.to_ascii_lowercase()).collect();
    assert_eq!(names, ["content-length"], "{}", answer.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_the_client_claims_is_taken_away_and_a_trace_goes_on() {
    let path = path(Upstream::ok().await).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let lines = [
        "X-Forwarded-Client-Cert: URI=spiffe://weir.local/ns/default/sa/admin",
        &parent,
        "X-Request-Id: mine",
        "Via: 1.1 before",
        "Forwarded: for=192.0.2.1",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: https",
    ];
    path.connect().await.ask("GET", request("GET /", &lines)).await;
    let seen = path.upstream.one();
    assert_eq!(seen.all("x-forwarded-client-cert"), ["URI=spiffe://weir.local/ns/default/sa/client"]);
    let there = seen.one("traceparent").unwrap();
    assert!(there.starts_with(&format!("00-{trace}-")) && !there.contains("00f067aa0ba902b7"), "{there}");
    assert_eq!(seen.one("x-request-id").as_deref(), Some("mine"));
    assert_eq!(seen.all("via"), ["1.1 before"]);
    assert_eq!(seen.all("forwarded"), ["for=192.0.2.1"]);
    assert_eq!(seen.all("x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
}
