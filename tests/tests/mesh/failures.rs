//! Failures: of the application, of one instance, on purpose; each with its reason, at once.

use crate::{pair, replicas};
use http::StatusCode;
use std::{
    ops::RangeInclusive,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use weir_tests::{
    application::Application,
    client::get,
    eventually, free_port,
    load::Load,
    mesh::{Mesh, Sidecar, service, workload},
};

fn policy(spec: &str) -> String {
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: server}}\nspec:\n  targetRefs: [{{kind: Service, name: server}}]\n{spec}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_application_gives_a_clean_503_with_a_reason_at_once() {
    let pair = pair("http", "").await;
    assert_eq!(get(pair.client.outbound, "server:8080", "/").await.unwrap().status(), StatusCode::OK);
    pair.application.stop();
    eventually("the application is gone", 5, || async {
        tokio::net::TcpStream::connect(pair.application.address).await.is_err().then_some(())
    })
    .await;
    let begun = Instant::now();
    let answer = get(pair.client.outbound, "server:8080", "/").await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["weir-reason"], "connect_failed");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_instance_is_taken_out() {
    let documents = policy(
        "  loadBalancing: {algorithm: RoundRobin}\n  retry: {on: [5xx], attempts: 2}\n  circuitBreaker:\n    outlierDetection: {consecutive5xx: 3, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 50}\n",
    );
    let replicas = replicas(&documents).await;
    let outbound = replicas.client.outbound;
    replicas.servers[0].0.counts.fail_with.store(500, Ordering::Relaxed);
    for _ in 0..120 {
        let answer = get(outbound, "server:8080", "/").await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "a failing instance is retried elsewhere");
    }
    let before = replicas.servers[0].0.requests();
    for _ in 0..60 {
        get(outbound, "server:8080", "/").await.unwrap();
    }
    assert_eq!(replicas.servers[0].0.requests(), before, "an ejected instance gets nothing");
    let metrics = replicas.client.metrics().await;
    assert!(metrics.contains("weir_breaker_transitions_total"), "{metrics}");
    let out = r#"weir_endpoints{destination="server.default.svc.cluster.local:8080",state="ejected"} 1"#;
    assert!(metrics.contains(out), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_instance_costs_nothing() {
    let mut replicas = replicas("").await;
    let load = Load::start(replicas.client.outbound, "server:8080", "/", 200);
    eventually("load runs", 10, || async { (load.so_far().good > 200).then_some(()) }).await;
    replicas.servers[0].1.process().kill();
    let then = load.so_far().good;
    eventually("load goes on", 10, || async { (load.so_far().good > then + 400).then_some(()) }).await;
    load.stop().await.assert_all_good(600);
}

/// How many endpoints a sidecar uses of those it knows.
async fn used(client: &Sidecar) -> usize {
    let metrics = client.metrics().await;
    let name = r#"weir_endpoints_used{destination="server.default.svc.cluster.local:8080"} "#;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}

/// Two of the few that a caller uses of many fail together, in this way; what is left of the part bears it, which may be
/// widened to so many. No request is lost.
async fn two_of_a_part_fail(policy: &str, widened: RangeInclusive<usize>, fail: impl Fn(&Application)) {
    let client_port = free_port();
    let mut documents = service("server", 8080, "kubernetes.io/h2c")
        + policy
        + &workload("client-1", "client", free_port(), client_port);
    let mut applications = vec![];
    for n in 0..40 {
        let (name, application) = (format!("server-{n}"), Application::start("server").await);
        let document = workload(&name, "server", application.address.port(), free_port());
        documents += &document.replace("sidecar: {", "sidecar: {disabled: true, ");
        applications.push(application);
    }
    let mesh = Mesh::start(&documents).await;
    let client = mesh.sidecar("client-1", "client", client_port).await;
    let load = Load::start(client.outbound, "server:8080", "/", 200);
    eventually("load runs", 20, || async { (load.so_far().good > 400).then_some(()) }).await;
    let part: Vec<_> = applications.iter().filter(|a| a.requests() > 0).collect();
    assert_eq!((part.len(), used(&client).await), (8, 8), "it uses few of the many");
    let (failing, others) = part.split_at(2);
    let of = |some: &[&Application]| some.iter().map(|a| a.requests()).collect::<Vec<_>>();
    let (then, failing_before, others_before) = (load.so_far().good, of(failing), of(others));
    failing.iter().for_each(|application| fail(application));
    eventually("others stand in", 20, || async { widened.contains(&used(&client).await).then_some(()) }).await;
    eventually("load goes on", 20, || async { (load.so_far().good > then + 800).then_some(()) }).await;
    let wasted = of(failing).iter().sum::<u64>() - failing_before.iter().sum::<u64>();
    assert!(wasted <= 800 / 40, "those that fail got {wasted} of 800 requests");
    assert!(of(others).iter().zip(&others_before).all(|(now, before)| now > before), "each of the others goes on");
    let asked = applications.iter().filter(|a| a.requests() > 0).count();
    assert!(widened.contains(&asked), "{asked} have been asked");
    load.stop().await.assert_all_good(1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_a_part_die_together_and_no_request_is_lost() {
    two_of_a_part_fail("", 8..=12, Application::stop).await;
    two_of_a_part_fail(
        &policy("  circuitBreaker: {outlierDetection: {consecutive5xx: 1}}\n"),
        12..=12,
        Application::stop,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_a_part_answer_with_errors_together_and_no_request_is_lost() {
    let with = |more: &str| policy(&format!("  retry: {{on: [5xx], attempts: 2}}\n{more}"));
    let fail = |application: &Application| application.counts.fail_with.store(503, Ordering::Relaxed);
    two_of_a_part_fail(&with(""), 8..=12, fail).await;
    two_of_a_part_fail(&with("  circuitBreaker: {outlierDetection: {consecutive5xx: 1}}\n"), 12..=12, fail).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_runs_out_where_it_was_said() {
    let pair = pair("http", &policy("  timeouts: {request: 200ms}\n")).await;
    let begun = Instant::now();
    let answer = get(pair.client.outbound, "server:8080", "/slow/3000").await.unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers()["weir-reason"], "request_timeout");
    assert!((Duration::from_millis(190)..Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_stay_within_their_budget() {
    let spec = "  retry: {on: [5xx], attempts: 3, backoff: {base: 1ms, max: 5ms}}\n  retryBudget: {percent: 20, interval: 10s, minRetriesPerSecond: 0}\n  circuitBreaker: {outlierDetection: {consecutive5xx: 10000, consecutiveGatewayFailure: 10000}}\n";
    let pair = pair("http", &policy(spec)).await;
    pair.application.counts.fail_with.store(503, Ordering::Relaxed);
    let asked = 300;
    for _ in 0..asked {
        get(pair.client.outbound, "server:8080", "/").await.unwrap();
    }
    let made = pair.application.requests();
    assert!(
        made as f64 <= asked as f64 * 1.2 + 1.0,
        "{made} requests reached an application that {asked} were meant for"
    );
    assert!(made > asked, "there were retries at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_done_on_purpose_and_say_so() {
    let fault = "  fault: {abort: {httpStatus: 418, percent: 100}, delay: {fixed: 100ms, percent: 100}}\n";
    let pair = pair("http", &policy(fault)).await;
    let begun = Instant::now();
    let answer = get(pair.client.outbound, "server:8080", "/").await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["weir-reason"]), (418, &"fault_injected".parse().unwrap()));
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(pair.application.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn above_its_limit_a_request_is_refused_not_queued() {
    let pair = pair("http", &policy("  circuitBreaker: {limits: {maxRequests: 1}}\n")).await;
    let outbound = pair.client.outbound;
    let slow = tokio::spawn(async move { get(outbound, "server:8080", "/slow/1500").await.unwrap().status() });
    eventually("the first is under way", 5, || async { (pair.application.requests() == 1).then_some(()) }).await;
    let second = get(outbound, "server:8080", "/").await.unwrap();
    assert_eq!(
        (second.status(), &second.headers()["weir-reason"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"overflow".parse().unwrap())
    );
    assert_eq!(slow.await.unwrap(), StatusCode::OK);
}
