//! Request smuggling over HTTP/1: every entry of `attacks.txt` reaches the application with the boundaries that the
//! sidecars saw, or not at all. Judged by the bytes that the application got, read with no indulgence.

use crate::{
    Path,
    corpus::{Entry, entries, plain, told},
    path, request,
};
use std::time::Duration;
use weir_tests::{
    message::{Message, Wrong, shown},
    raw::{Answer, Raw},
    upstream::{Step, Upstream},
};

const HOST: &str = "Host: server:8080\r\n";
const MARKER: &str = "GET /smuggled HTTP/1.1\r\nHost: server:8080\r\n\r\n";

/// All attacks.
pub fn attacks() -> Vec<Entry> {
    let all = entries(include_str!("attacks.txt"), HOST, MARKER);
    assert!(all.len() >= 250, "only {} attacks", all.len());
    all
}

/// An application that says which target it was asked for.
pub async fn naming() -> Upstream {
    Upstream::start(|request| {
        let target = request.word();
        let body = if request.line().starts_with("HEAD ") { "" } else { &target };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", target.len());
        vec![Step::ReadBody, Step::Send(answer.into_bytes())]
    })
    .await
}

/// What came back to the attacker.
pub struct Back {
    pub answers: Vec<Answer>,
    pub wrong: Wrong,
}

/// Sends an attack and the end of it, and reads all that comes.
pub async fn send(path: &Path, entry: &Entry) -> Back {
    let mut client = path.connect().await;
    client.send(&entry.bytes).await.half_close().await;
    let mut answers: Vec<Answer> = vec![];
    loop {
        let head = answers.is_empty() && entry.bytes.starts_with(b"HEAD ");
        match client.answer(if head { "HEAD" } else { "GET" }).await {
            Ok(answer) => answers.push(answer),
            Err(wrong) => return Back { answers, wrong },
        }
    }
}

/// What became of it, as the file writes it.
async fn outcome(path: &Path, entry: &Entry) -> Result<Vec<String>, String> {
    let back = send(path, entry).await;
    if back.wrong.starts_with("nothing (more)") {
        return Err(format!("the connection does not end: {}", back.wrong));
    }
    // Others are served by the same connections between the sidecars, and each gets its own answer.
    let mut innocent = path.connect().await;
    for n in 0..2 {
        let target = format!("/innocent-{n}");
        let answer = innocent.ask("GET", request(&format!("GET {target}"), &[])).await;
        if answer.status() != 200 || answer.last.body != target.as_bytes() {
            return Err(format!("an innocent client got {}", answer.last.shown()));
        }
    }
    let requests = settled(&path.upstream).await?;
    let mut seen: Vec<String> = requests.iter().map(told_of).collect();
    let whole = requests.iter().filter(|r| r.complete).count();
    let good = back.answers.iter().filter(|a| a.status() == 200).count();
    if good > whole {
        return Err(format!("{good} answers to {whole} requests"));
    }
    match back.answers.iter().map(Answer::status).find(|s| *s != 200) {
        Some(400..=499 | 501 | 505) => seen.push("refused".into()),
        Some(other) => seen.push(format!("status {other}")),
        None if seen.is_empty() => seen.push("closed".into()),
        None => {}
    }
    Ok(seen)
}

/// `METHOD /target bytes`
fn told_of(request: &Message) -> String {
    let line = request.line();
    let (method, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let target = plain(rest.rsplit_once(' ').map_or(rest, |(target, _)| target));
    if request.complete {
        format!("{method} {target} {}", request.body.len())
    } else {
        format!("{method} {target} cut")
    }
}

/// The requests that reached the application, when each is whole or known to be cut.
async fn settled(upstream: &Upstream) -> Result<Vec<Message>, String> {
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let all = upstream.conversations();
        let open = all.iter().any(|c| c.wrong.is_none() && c.requests.iter().any(|r| !r.complete));
        if !open {
            if let Some(wrong) = all.iter().filter_map(|c| c.wrong.as_deref()).find(|w| !w.starts_with("ended")) {
                // What the sidecar sends is beyond doubt, whatever it was sent.
                if !wrong.starts_with("the connection broke") {
                    return Err(format!("the application got {wrong}"));
                }
            }
            let requests = all.into_iter().flat_map(|c| c.requests);
            return Ok(requests.filter(|r| !r.word().starts_with("/innocent")).collect());
        }
        if std::time::Instant::now() > limit {
            return Err("the application waits for the rest of a request for ever".into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_arrives_with_the_boundaries_that_were_seen_or_not_at_all() {
    let path = path(naming().await).await;
    let mut failures = vec![];
    for entry in attacks() {
        path.upstream.forget();
        match outcome(&path, &entry).await {
            Ok(seen) if entry.permits(&seen) => {}
            Ok(seen) => failures.push(format!("{}: {}", entry.name, told(&seen))),
            Err(why) => failures.push(format!("{}: {why}\n{}", entry.name, shown(&entry.bytes))),
        }
    }
    assert!(failures.is_empty(), "{} attacks:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_is_a_request_is_seen_as_one() {
    // Else the test above could not fail.
    let path = path(naming().await).await;
    let mut client: Raw = path.connect().await;
    client.send(request("GET /a", &[])).await.send(MARKER).await;
    for target in ["/a", "/smuggled"] {
        assert_eq!(client.answer("GET").await.unwrap().last.body, target.as_bytes());
    }
    assert_eq!(path.upstream.requests().len(), 2);
}
