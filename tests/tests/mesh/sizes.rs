//! How much memory a sidecar takes, and that it does not grow with the mesh.

use crate::pair;
use weir_tests::{client, eventually, mesh::service, raw::Raw};

/// Debug builds are larger; the promise is about what is released.
const RELEASED: bool = !cfg!(debug_assertions);

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_small_and_does_not_grow_with_the_mesh() {
    let few: String = (0..10).map(|n| service(&format!("few-{n}"), 80, "http")).collect();
    let mut pair = pair("http", &few).await;
    for name in ["server:8080", "server.default:8080", "server.default.svc:8080"] {
        client::text(pair.client.outbound, name, "/").await;
    }
    let before = pair.client.process().rss_kib();
    for batch in 0..10 {
        let many: String = (0..499).map(|n| service(&format!("many-{batch}-{n}"), 80, "http")).collect();
        pair.mesh.apply(&many).await;
    }
    for name in ["server:8080", "server.default:8080", "server.default.svc:8080"] {
        client::text(pair.client.outbound, name, "/").await;
    }
    let after = pair.client.process().rss_kib();
    eprintln!("RSS of a sidecar: {before} KiB in a mesh of 11 services, {after} KiB in one of 5,001");
    assert!(after < before + 1024, "from {before} KiB to {after} KiB");
    assert!(!RELEASED || before <= 15 * 1024, "{before} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_services_may_lead_to_one_workload() {
    let pair = pair("http", "").await;
    let alias = |n: usize| service(&format!("alias-{n}"), 8080, "http").replace("{app: ", "{app: server} #");
    for batch in 0..5 {
        let many: String = (batch * 1000..(batch + 1) * 1000).map(alias).collect();
        pair.mesh.apply(&many).await;
    }
    let begun = std::time::Instant::now();
    eventually("the last of them is served", 30, || async {
        let answer = client::get(pair.client.outbound, "alias-4999:8080", "/").await;
        answer.ok().filter(|a| a.status().is_success())
    })
    .await;
    eprintln!("the last of 5,000 services is served after {:?}", begun.elapsed());
    assert!(!client::text(pair.client.outbound, "server:8080", "/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_routes_cost_little_memory() {
    let mut pair = pair("http", "").await;
    client::text(pair.client.outbound, "server:8080", "/").await;
    let before = pair.client.process().rss_kib();
    let route = |n: usize| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: route-{n}}}\nspec:\n  parentRefs: [{{group: \"\", kind: Service, name: server}}]\n  rules:\n    - matches: [{{path: {{type: PathPrefix, value: /elsewhere/{n}}}}}]\n      filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-route, value: \"{n}\"}}]}}}}]\n      backendRefs: [{{name: server, port: 8080}}]\n"
        )
    };
    pair.mesh.apply(&(0..1000).map(route).collect::<String>()).await;
    eventually("the last route is taken", 30, || async {
        let answer = client::get(pair.client.outbound, "server:8080", "/elsewhere/999").await.ok()?;
        String::from_utf8_lossy(answer.body()).contains("x-route: 999").then_some(())
    })
    .await;
    let after = pair.client.process().rss_kib();
    eprintln!("RSS of a sidecar: {before} KiB with one route, {after} KiB with 1,001");
    // What building them takes for a moment is in it.
    assert!(after < before + 8 * 1024, "from {before} KiB to {after} KiB");
}

async fn ask(client: &mut Raw) {
    client.send("GET / HTTP/1.1\r\nHost: server:8080\r\n\r\n").await;
    let answer = client.answer("GET").await.unwrap();
    assert_eq!((answer.status(), answer.reason()), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_costs_little() {
    const MANY: u64 = 3_000;
    let mut pair = pair("http", "").await;
    let mut warm: Vec<_> = futures::future::join_all((0..64).map(|_| Raw::connect(pair.client.outbound))).await;
    for _ in 0..20 {
        futures::future::join_all(warm.iter_mut().map(ask)).await;
    }
    let before = pair.client.process().rss_kib();
    let mut clients: Vec<_> = futures::future::join_all((0..MANY).map(|_| Raw::connect(pair.client.outbound))).await;
    for some in clients.chunks_mut(64) {
        futures::future::join_all(some.iter_mut().map(ask)).await;
    }
    let each = (pair.client.process().rss_kib().saturating_sub(before)) as f64 / MANY as f64;
    eprintln!("a silent connection of a client: {each:.2} KiB");
    assert!(each < 4.0, "{each:.2} KiB");
    drop((clients, warm));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_asks_at_once_is_served_over_few_connections() {
    let pair = pair("http", "").await;
    let mut clients: Vec<_> = futures::future::join_all((0..2_000).map(|_| Raw::connect(pair.client.outbound))).await;
    futures::future::join_all(clients.iter_mut().map(ask)).await;
    let metrics = pair.client.metrics().await;
    let made = metrics.lines().find(|l| l.starts_with("weir_attempts_total{") && l.contains("connect_timeout"));
    assert_eq!(made, None, "no connection was given up");
}
