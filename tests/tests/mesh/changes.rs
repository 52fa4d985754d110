//! Changes under load: the control plane gone, configuration in motion, certificates renewed; nothing is lost.

use crate::pair;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_tests::{eventually, load::Load};

/// Shorter unless `WEIR_LONG` asks for the whole minute.
fn minute() -> Duration {
    if std::env::var_os("WEIR_LONG").is_some() { Duration::from_secs(60) } else { Duration::from_secs(15) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_killed_costs_nothing_and_returns_with_all_it_knew() {
    let mut pair = pair("http", "").await;
    let load = Load::start(pair.client.outbound, "server:8080", "/", 100);
    eventually("load runs", 10, || async { (load.so_far().good > 100).then_some(()) }).await;
    let before = pair.mesh.page("/api/v1/workloads").await;
    pair.mesh.control_plane().signal(Signal::SIGKILL);
    // A sidecar that restarts meanwhile serves from what it kept.
    let token = String::new();
    tokio::time::sleep(minute() / 2).await;
    let mut restarted = pair.client;
    restarted.process().signal(Signal::SIGKILL);
    let report = load.stop().await;
    assert!(report.good > 0);
    let closed: u64 = report.bad.values().sum();
    assert!(closed <= 2, "only what was under way in the killed sidecar itself may fail: {report:?}");
    restarted.spawn(&pair.mesh, &token).await;
    restarted.ready().await;
    let load = Load::start(restarted.outbound, "server:8080", "/", 100);
    tokio::time::sleep(minute() / 2).await;
    pair.mesh.start_control_plane().await;
    assert_eq!(pair.mesh.page("/api/v1/workloads").await["items"], before["items"], "it kept everything");
    pair.mesh.apply(&weir_tests::mesh::service("another", 1, "http")).await;
    load.stop().await.assert_all_good(500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_changes_and_short_lived_certificates_lose_nothing() {
    let mesh = "---\napiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {certificate: {lifetime: 10s}}\n";
    let pair = pair("http", mesh).await;
    // An established stream: bytes both ways over CONNECT.
    let mut stream = tokio::net::TcpStream::connect(pair.client.outbound).await.unwrap();
    stream.write_all(b"CONNECT server:8080 HTTP/1.1\r\nhost: server:8080\r\n\r\n").await.unwrap();
    let mut answer = [0; 512];
    let n = stream.read(&mut answer).await.unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..n]));
    let load = Load::start(pair.client.outbound, "server:8080", "/", 100);
    let begun = Instant::now();
    for n in 0..1000 {
        let policy = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: server}}\nspec:\n  targetRefs: [{{kind: Service, name: server}}]\n  timeouts: {{request: {}ms}}\n  circuitBreaker: {{limits: {{maxRequests: {}}}}}\n",
            10_000 + n,
            1000 + n
        );
        pair.mesh.apply(&policy).await;
    }
    // Long enough for every certificate to have been renewed twice.
    let least = minute().max(Duration::from_secs(25));
    tokio::time::sleep(least.saturating_sub(begun.elapsed())).await;
    let report = load.stop().await;
    report.assert_all_good(least.as_secs() * 80);
    // The stream lives: what it was opened for still answers.
    stream.write_all(b"GET /still HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
    let n = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..n]));
    let status = pair.mesh.page("/api/v1/changes").await;
    let newest = &status["items"][0];
    assert_eq!(newest["refused"], 0, "{newest}");
    let metrics = pair.client.metrics().await;
    let renewals = metrics.lines().find(|l| l.starts_with("weir_identity_cert_renewals_total")).unwrap_or_default();
    let renewed: f64 = renewals.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    assert!(renewed >= 2.0, "{renewals}");
}
