//! Methods and targets: any method, any legal target, as it was written.

use crate::{path, request};
use weir_tests::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_carried_with_or_without_a_body() {
    let path = path(Upstream::ok().await).await;
    let mut client = path.connect().await;
    let methods = [
        "GET",
        "POST",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "PROPFIND",
        "MKCOL",
        "REPORT",
        "QUERY",
        "BREW",
        "M-SEARCH",
        "get",
        "a!#$%&'*+-.^_`|~9",
    ];
    for method in methods {
        assert_eq!(client.ask(method, request(&format!("{method} /m"), &[])).await.status(), 200, "{method}");
        if method != "TRACE" {
            let head = request(&format!("{method} /m"), &["Content-Length: 2"]);
            assert_eq!(client.ask(method, [&head[..], b"hi"].concat()).await.status(), 200, "{method} with a body");
        }
    }
    let seen: Vec<String> = path.upstream.requests().iter().map(|r| format!("{} {}", r.line(), r.body.len())).collect();
    let expected: Vec<String> = methods
        .iter()
        .flat_map(|m| {
            [0, 2].into_iter().filter(move |n| *n == 0 || *m != "TRACE").map(move |n| format!("{m} /m HTTP/1.1 {n}"))
        })
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_not_normalised() {
    let path = path(Upstream::ok().await).await;
    let mut client = path.connect().await;
    let long = format!("/{}?{}", "p".repeat(16_000), "q".repeat(16_000));
    let targets = [
        "/a/../b/./c//d",
        "/%2e%2e/%2F%2f/%41%zz",
        "/a;v=1/b,c(d)!e$f&g'h*i+j=k:l@m~n",
        "/?",
        "/??a=b?c=d&&=",
        "/a?b=/../%2F",
        "//server/path",
        &long,
    ];
    for target in targets {
        let status = client.ask("GET", request(&format!("GET {target}"), &[])).await.status();
        assert_eq!(status, 200, "{}", &target[..target.len().min(80)]);
    }
    let seen: Vec<String> = path.upstream.requests().iter().map(weir_tests::message::Message::word).collect();
    assert_eq!(seen, targets);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_absolute_form_becomes_a_path_and_its_authority_is_the_host() {
    let path = path(Upstream::ok().await).await;
    let mut client = path.connect().await;
    client.ask("GET", "GET http://server:8080/a?b HTTP/1.1\r\nHost: server:8080\r\n\r\n").await;
    client.ask("GET", "GET http://server:8080/c HTTP/1.1\r\nHost: other:1\r\n\r\n").await;
    client.ask("GET", "GET http://server:8080 HTTP/1.1\r\nHost: server:8080\r\n\r\n").await;
    let seen: Vec<(String, Vec<String>)> = path.upstream.requests().iter().map(|r| (r.line(), r.all("host"))).collect();
    let host = || vec!["server:8080".to_owned()];
    assert_eq!(
        seen,
        [
            ("GET /a?b HTTP/1.1".to_owned(), host()),
            ("GET /c HTTP/1.1".to_owned(), host()),
            ("GET / HTTP/1.1".to_owned(), host())
        ],
        "RFC 9112 §3.2.2: the target's authority replaces Host"
    );
}
