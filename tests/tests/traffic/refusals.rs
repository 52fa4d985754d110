//! What is refused is told so: status, `weir-reason`, and the connection's end.

use crate::{
    attacks::{attacks, naming, send},
    path, request,
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_that_is_refused_is_told_why() {
    let path = path(naming().await).await;
    let mut failures = vec![];
    for entry in attacks().iter().filter(|e| e.must_be_refused()) {
        let back = send(&path, entry).await;
        let told = back.answers.first().map(|first| (first.status(), first.reason()));
        let fine = match &told {
            Some((400 | 501 | 505, Some(reason))) => reason == "bad_request",
            Some((431 | 414, Some(reason))) => reason == "request_headers_too_large",
            _ => false,
        };
        if !fine {
            failures.push(format!("{}: {told:?}", entry.name));
        }
    }
    assert!(failures.is_empty(), "{} refusals:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let path = path(naming().await).await;
    let mut client = path.connect().await;
    client.send(request("GET /a", &["X : y"])).await;
    // More than the sockets between hold, so that the sidecar must read on, or at least not reset what it said.
    for _ in 0..64 {
        if client.try_send(&[b'x'; 16 * 1024]).await.is_err() {
            break;
        }
    }
    let answer = client.answer("GET").await.unwrap();
    assert_eq!((answer.status(), answer.reason().as_deref()), (400, Some("bad_request")));
    assert!(client.rest(Duration::from_secs(20)).await.is_some(), "and then the connection ends");
    assert!(path.upstream.requests().is_empty());
}
