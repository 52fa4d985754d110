//! Names of fields, and the words of the status line, come as they were written.

use crate::{path, request};
use weir_tests::upstream::{Step, Upstream};

const REQUEST: [&str; 6] =
    ["X-MiXeD: a", "SOAPAction: \"urn:x\"", "x-lower: b", "X_Under_Score: c", "ETAG-like: d", "Content-MD5: e"];
const ANSWER: [&str; 5] = ["X-MiXeD: a", "ETag: \"1\"", "WWW-Authenticate: Basic", "x-lower: b", "DNT: 0"];

#[tokio::test(flavor = "multi_thread")]
async fn names_keep_their_case_both_ways() {
    let answer = format!("HTTP/1.1 200 OK\r\n{}\r\nCONTENT-length: 2\r\n\r\nok", ANSWER.join("\r\n"));
    let upstream = Upstream::start(move |_| vec![Step::ReadBody, Step::Send(answer.clone().into_bytes())]).await;
    let path = path(upstream).await;
    let mut client = path.connect().await;
    // Twice, so that a connection that is used again is no exception.
    for turn in 0..2 {
        let answer = client.ask("GET", request("GET /a", &REQUEST)).await;
        for line in ANSWER {
            assert!(answer.last.has(line), "{line} in {}", answer.last.shown());
        }
        let seen = path.upstream.whole(turn).await;
        for line in REQUEST.iter().chain(&["Host: server:8080"]) {
            assert!(seen.has(line), "{line} in {}", seen.shown());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_in_several_cases_stays_several_lines() {
    let answer = b"HTTP/1.1 200 OK\r\nX-Many: 1\r\nx-many: 2\r\nContent-Length: 0\r\n\r\n".to_vec();
    let path = path(Upstream::start(move |_| vec![Step::Send(answer.clone())]).await).await;
    let answer = path.connect().await.ask("GET", request("GET /", &["X-Many: 1", "x-many: 2", "X-MANY: 3"])).await;
    let seen = path.upstream.one();
    let names: Vec<String> = seen.names().into_iter().filter(|n| n.eq_ignore_ascii_case("x-many")).collect();
    assert_eq!(names, ["X-Many", "x-many", "X-MANY"], "{}", seen.shown());
    assert_eq!(seen.all("x-many"), ["1", "2", "3"]);
    let names: Vec<String> = answer.last.names().into_iter().filter(|n| n.eq_ignore_ascii_case("x-many")).collect();
    assert_eq!(names, ["X-Many", "x-many"], "{}", answer.last.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_keeps_its_case() {
    let path = path(Upstream::ok().await).await;
    path.connect().await.ask("GET", "GET / HTTP/1.1\r\nhOST: Server:8080\r\n\r\n").await;
    assert!(path.upstream.one().has("hOST: Server:8080"), "{}", path.upstream.one().shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_the_status_line_are_kept() {
    let answer = b"HTTP/1.1 200 All is well\r\nContent-Length: 0\r\n\r\n".to_vec();
    let path = path(Upstream::start(move |_| vec![Step::Send(answer.clone())]).await).await;
    let answer = path.connect().await.ask("GET", request("GET /", &[])).await;
    assert_eq!(answer.last.line(), "HTTP/1.1 200 All is well");
}
