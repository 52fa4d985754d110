//! Life and death of a sidecar: it says that it goes before it goes, lets its application finish, and ends when told,
//! when it is time, or when its application has ended.

use crate::{Pair, pair, replicas_with};
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use std::{
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weir_tests::{
    client::{Connection, get, request, send},
    eventually, free_port,
    mesh::{Mesh, Sidecar, service, workload},
    process::{Process, binaries},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_has_started_gives_back_what_only_its_start_needed() {
    let mut pair = pair("http", "").await;
    let process = pair.client.process();
    eventually("a good part of the most that it took is given back", 10, || {
        let given_back = process.peak_kib().saturating_sub(process.rss_kib());
        async move { (given_back > 4 * 1024).then_some(()) }
    })
    .await;
    let answer = get(pair.client.outbound, "server:8080", "/").await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "what it needs comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_large_request_the_next_is_read_however_many_others_are_read_at_once() {
    let pair = pair("http", "").await;
    let all = (0..96).map(|_| async {
        let mut client = Connection::http1(pair.client.outbound).await.unwrap();
        for n in 0..12 {
            let large = request(Method::POST, "server:8080", "/count/0", vec![b'b'; 64 * 1024]);
            let answer = tokio::time::timeout(Duration::from_secs(30), client.send(large)).await;
            assert_eq!(
                answer.unwrap_or_else(|_| panic!("request {n} is not answered")).unwrap().status(),
                StatusCode::OK
            );
        }
    });
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_goes_is_chosen_no_more_long_before_it_refuses() {
    let mut replicas = replicas_with("", &["--drain-delay-seconds", "8"]).await;
    let outbound = replicas.client.outbound;
    for _ in 0..20 {
        assert_eq!(get(outbound, "server:8080", "/").await.unwrap().status(), StatusCode::OK);
    }
    let told = Instant::now();
    replicas.servers[0].1.process().signal(Signal::SIGTERM);
    let (health, inbound) = (replicas.servers[0].1.health, replicas.servers[0].1.inbound);
    eventually("it is not ready any more", 2, || async {
        let answer = get(health, "health", "/readyz").await.ok()?;
        (answer.status() == StatusCode::SERVICE_UNAVAILABLE && answer.body().starts_with(b"not ready: draining"))
            .then_some(())
    })
    .await;
    let draining = r#"weir_endpoints{destination="server.default.svc.cluster.local:8080",state="draining"} 1"#;
    eventually("its caller knows", 4, || async { replicas.client.metrics().await.contains(draining).then_some(()) })
        .await;
    eprintln!("its caller knew after {:?}", told.elapsed());
    let before = replicas.servers[0].0.requests();
    for _ in 0..60 {
        assert_eq!(get(outbound, "server:8080", "/").await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(replicas.servers[0].0.requests(), before, "who goes gets nothing new");
    assert!(told.elapsed() < Duration::from_secs(8) && TcpStream::connect(inbound).await.is_ok(), "it still accepts");
    assert!(replicas.servers[0].1.metrics().await.contains("weir_draining 1"));
    let status = replicas.servers[0].1.process().ended(Duration::from_secs(30)).await;
    assert!(status.success(), "{}", replicas.servers[0].1.log());
    assert!(told.elapsed() >= Duration::from_secs(8));

    // Gone is gone; and who comes back is chosen again.
    assert!(replicas.client.metrics().await.contains(draining));
    let token = replicas.mesh.token("server").await;
    replicas.servers[0].1.start(&replicas.mesh, &token).await;
    eventually("it gets requests again", 10, || async {
        get(outbound, "server:8080", "/").await.unwrap();
        (replicas.servers[0].0.requests() > before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_s_calls_go_on_until_it_has_gone() {
    let Pair { mesh: _mesh, mut client, server: _server, application: _application } = pair("http", "").await;
    let outbound = client.outbound;
    let slow = tokio::spawn(async move { get(outbound, "server:8080", "/slow/4000").await });
    get(outbound, "server:8080", "/").await.unwrap();
    client.process().signal(Signal::SIGTERM);
    let told = Instant::now();
    // Its last calls, each on a connection of its own, for longer than callers need to learn that it goes.
    while told.elapsed() < Duration::from_secs(5) {
        let answer = get(outbound, "server:8080", "/").await.expect("the application is still there");
        assert_eq!(answer.status(), StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::OK);
    let left = Instant::now();
    let status = client.process().ended(Duration::from_secs(15)).await;
    assert!(status.success(), "{}", client.log());
    assert!(left.elapsed() < Duration::from_secs(5), "nobody is left: {:?}", left.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let Pair { mesh: _mesh, mut client, server: _server, application: _application } = pair("http", "").await;
    let mut tunnel = TcpStream::connect(client.outbound).await.unwrap();
    tunnel.write_all(b"CONNECT server:8080 HTTP/1.1\r\nhost: server:8080\r\n\r\n").await.unwrap();
    assert!(tunnel.read(&mut [0; 512]).await.unwrap() > 0);
    client.process().signal(Signal::SIGTERM);
    let health = client.health;
    eventually("it drains", 5, || async {
        let answer = get(health, "health", "/readyz").await.ok()?;
        (answer.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(client.process().is_running(), "a stream is open");
    let again = Instant::now();
    client.process().signal(Signal::SIGTERM);
    let status = client.process().ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(1), "work was cut");
    assert!(again.elapsed() < Duration::from_secs(4), "{:?}", again.elapsed());
}

/// A mesh with one workload, `job`, whose sidecar has not been started.
async fn job(extra: &[&str]) -> (Mesh, Sidecar, String) {
    let inbound = free_port();
    let documents = service("job", 8080, "http") + &workload("job-1", "job", free_port(), inbound);
    let mesh = Mesh::start(&documents).await;
    let sidecar = mesh.sidecar_stopped("job-1", "job", inbound, extra);
    let token = mesh.token("job").await;
    (mesh, sidecar, token)
}

/// `weir await … -- sh -c <script>`
fn wait(mesh: &Mesh, sidecar: &Sidecar, options: &[&str], script: &str) -> Process {
    let mut command = Command::new(binaries().join("weir"));
    command
        .args(["await", "--health", &sidecar.health.to_string(), "--admin", &sidecar.admin.to_string()])
        .args(options)
        .args(["--", "sh", "-c", script]);
    Process::start("await", mesh.folder.path(), &mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_starts_with_its_sidecar_and_takes_it_along() {
    let (mesh, mut sidecar, token) = job(&["--allow-quit"]).await;
    let started = mesh.folder.path().join("started");
    let script = format!("touch {}; exit 7", started.display());
    let mut job = wait(&mesh, &sidecar, &["--shutdown"], &script);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(job.is_running() && !started.exists(), "there is no sidecar yet");
    // The job may be over before anybody else has seen it ready.
    sidecar.spawn(&mesh, &token).await;
    let status = job.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(7), "the job's own code\n{}", job.log());
    assert!(started.exists());
    let told = Instant::now();
    assert!(sidecar.process().ended(Duration::from_secs(20)).await.success(), "{}", sidecar.log());
    assert!(told.elapsed() < Duration::from_secs(3), "nothing was under way: {:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_gets_its_signals_and_a_sidecar_is_ended_only_where_that_is_allowed() {
    let (mesh, mut sidecar, token) = job(&[]).await;
    sidecar.start(&mesh, &token).await;
    let ready = mesh.folder.path().join("ready");
    let script = format!("trap 'exit 9' TERM; touch {}; while :; do sleep 0.05; done", ready.display());
    // As its child, and in its place.
    for options in [&["--shutdown"][..], &[]] {
        let mut job = wait(&mesh, &sidecar, options, &script);
        eventually("it runs", 20, || async { ready.exists().then_some(()) }).await;
        job.signal(Signal::SIGTERM);
        let status = job.ended(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(9), "{options:?}\n{}", job.log());
        std::fs::remove_file(&ready).unwrap();
        assert_eq!(job.log().matches("not allowed here").count(), 1, "{}", job.log());
    }
    assert!(sidecar.process().is_running());
    let quit = send(sidecar.admin, request(Method::POST, "localhost", "/quitquitquit", "")).await.unwrap();
    assert_eq!(quit.status(), StatusCode::FORBIDDEN);
    let killed = wait(&mesh, &sidecar, &["--shutdown"], "kill -KILL $$").ended(Duration::from_secs(10)).await;
    assert_eq!(killed.code(), Some(128 + 9), "as a shell would say it");
    let missing = Command::new(binaries().join("weir"))
        .args(["await", "--health", &sidecar.health.to_string(), "--", "/there/is/none"])
        .status()
        .unwrap();
    assert_eq!(missing.code(), Some(127));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_not_started_without_its_sidecar() {
    let (mesh, sidecar, _) = job(&[]).await;
    let started = mesh.folder.path().join("started");
    let mut job = wait(&mesh, &sidecar, &["--timeout", "1s"], &format!("touch {}", started.display()));
    let status = job.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(1));
    assert!(job.log().contains("is not ready after 1s") && !started.exists(), "{}", job.log());
    let mut job = wait(&mesh, &sidecar, &[], "exit 0");
    // It listens for signals before it asks for anything.
    tokio::time::sleep(Duration::from_millis(500)).await;
    job.signal(Signal::SIGTERM);
    assert_eq!(job.ended(Duration::from_secs(10)).await.code(), Some(128 + 15));
}
