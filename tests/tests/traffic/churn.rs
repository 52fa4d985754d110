//! Connections that are opened and closed in every way: afterwards descriptors and memory are where they were.
//!
//! `WEIR_CHURN` is how many there are: 4,000 unless it says otherwise; the long form is 50,000.

use crate::{Path, count, path_of, request};
use std::time::Duration;
use weir_tests::{
    eventually,
    frames::{END_HEADERS, END_STREAM, Frames, block, frame, kind, pseudo},
    process::Process,
    raw::Raw,
    upstream::{OK, Step, Upstream},
};

/// What a sidecar may keep of the memory that so many connections took (its allocator gives pages back late).
const MORE_KIB: u64 = 16 * 1024;
/// Connections at once.
const AT_ONCE: usize = 16;

async fn application() -> Upstream {
    Upstream::start(|request| match request.word().as_str() {
        "/upgrade" => {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
            vec![Step::Send(head.to_vec()), Step::Echo]
        }
        "/reset" => vec![Step::Reset],
        "/close" => vec![Step::ReadBody, Step::Send(b"HTTP/1.1 200 OK\r\n\r\nx".to_vec()), Step::Close],
        "/break" => vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec()), Step::Close],
        "/early" => vec![Step::Send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n".to_vec()), Step::Close],
        "/mute" => vec![Step::Mute],
        _ => vec![Step::ReadBody, Step::Send(OK.to_vec())],
    })
    .await
}

/// One connection, in one of the ways.
async fn once(path: &Path, way: usize) {
    let outbound = path.client.outbound;
    let get = |target: &str| request(&format!("GET {target}"), &[]);
    let mut client = Raw::connect(outbound).await;
    match way % 14 {
        0 => drop(client.ask("GET", get("/")).await),
        1 => drop(client.send(get("/")).await.half_close().await.answer("GET").await),
        2 => {}
        3 => client.reset(),
        4 => {
            client.send(b"GET / HT").await;
            client.reset();
        }
        5 => drop(client.send(request("POST /", &["Content-Length: 1000"])).await),
        6 => drop(client.send(b"\x16nonsense\r\n\r\n").await.answer("GET").await),
        7 => drop(client.send(get("/close")).await.answer("GET").await),
        8 => drop(client.send(get("/break")).await.answer("GET").await),
        9 => drop(client.send(request("POST /early", &["Content-Length: 100000"])).await.answer("POST").await),
        10 => {
            // One that only closes is noticed later: see below.
            client.send(get("/mute")).await.is_silent(Duration::from_millis(5)).await;
            client.reset();
        }
        11 => {
            client.send(request("GET /upgrade", &["Connection: Upgrade", "Upgrade: x"])).await;
            if client.answer("GET").await.is_ok_and(|a| a.status() == 101) {
                client.send("bytes").await.half_close().await.rest(Duration::from_secs(5)).await;
            }
        }
        12 => {
            let mut client = Frames::connect(outbound, &[]).await;
            let headers = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block(&pseudo("GET", "/")));
            let _ = client.send(&headers).await;
            client.stream(1).await;
        }
        _ => {
            let mut client = Frames::connect(outbound, &[]).await;
            let headers = frame(kind::HEADERS, END_HEADERS, 1, &block(&pseudo("POST", "/mute")));
            let _ = client.send(&headers).await;
            let _ = client.send(&frame(kind::RST_STREAM, 0, 1, &8u32.to_be_bytes())).await;
        }
    }
}

async fn churn(path: &Path, connections: usize) {
    use futures::StreamExt;
    futures::stream::iter(0..connections).for_each_concurrent(AT_ONCE, |way| once(path, way)).await;
    // The notes of the application are no part of what is measured, and would grow.
    path.upstream.forget();
}

fn descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).map_or(0, Iterator::count)
}

fn both(path: &Path) -> [&Process; 2] {
    [&path.client, &path.server].map(|s| s.process.as_ref().expect("a sidecar"))
}

/// Short idle times, so that what is kept for the next request is given up soon; and nothing is put aside for its errors.
const POLICY: &str = "---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: server}
spec:
  targetRefs: [{kind: Service, group: '', name: server}]
  connectionPool: {idleTimeout: 2s}
  circuitBreaker: {outlierDetection: {consecutive5xx: 10000, consecutiveGatewayFailure: 10000}}
";

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_and_memory_return_to_where_they_were() {
    let path = path_of("http", application().await, POLICY).await;
    let connections = count("WEIR_CHURN", 4_000);
    // Everything that is made once is made.
    churn(&path, (connections / 4).min(2_000)).await;
    let quiet = async |what: &str| {
        eventually(what, 60, || async { both(&path).iter().all(|p| descriptors(p) < 80).then_some(()) }).await;
        both(&path).map(|p| (descriptors(p), p.rss_kib()))
    };
    let before = quiet("connections are closed after the first").await;
    churn(&path, connections).await;
    let after = quiet("connections are closed after all").await;
    eprintln!("{connections} connections: (descriptors, KiB) {before:?} -> {after:?}");
    for (before, after) in before.iter().zip(&after) {
        assert!(after.0 <= before.0 + 8, "descriptors {before:?} -> {after:?}");
        assert!(after.1 <= before.1 + MORE_KIB, "memory in KiB {before:?} -> {after:?}");
    }
    assert_eq!(path.connect().await.ask("GET", request("GET /", &[])).await.status(), 200, "and it still serves");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "its kernel forgets a closed connection after a minute (tcp_fin_timeout), and only then can it be told"]
async fn clients_that_have_closed_while_the_application_says_nothing_are_noticed() {
    let path = path_of("http", application().await, POLICY).await;
    path.connect().await.ask("GET", request("GET /", &[])).await;
    let before = both(&path).map(descriptors);
    for _ in 0..20 {
        path.connect().await.send(request("GET /mute", &[])).await;
    }
    eventually("they have all arrived", 10, || async { (path.upstream.requests().len() == 21).then_some(()) }).await;
    let begun = std::time::Instant::now();
    eventually("they are noticed", 150, || async {
        let now = both(&path).map(descriptors);
        now.iter().zip(&before).all(|(now, before)| *now <= before + 4).then_some(())
    })
    .await;
    eprintln!("noticed after {:?}", begun.elapsed());
}
