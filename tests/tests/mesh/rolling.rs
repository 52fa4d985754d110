//! Every instance of a service restarted, one after the other, under load: with warning nothing is lost; without, only
//! what was under way on the killed one and is not safe to repeat.

use crate::{Replicas, replicas};
use http::Method;
use nix::sys::signal::Signal;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use weir_tests::{application::Application, eventually, load::Load};

/// Requests a second, half of them GET, half POST: 1,000 where programs are optimised or `WEIR_RATE` says so; what a
/// debug build carries beside other work is less.
fn rate() -> u32 {
    let asked = std::env::var("WEIR_RATE").ok().and_then(|rate| rate.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { 250 } else { 1_000 })
}

/// Requests that are made before and after each restart, at least: one and a half seconds of them.
fn between() -> u64 {
    u64::from(rate()) * 3 / 2
}

/// How long a killed connection takes to be seen by who holds its other end.
const NOTICE: Duration = Duration::from_millis(50);

/// Both halves.
struct Loads([Load; 2]);

impl Loads {
    fn start(outbound: SocketAddr) -> Self {
        Self([Method::GET, Method::POST].map(|m| Load::of(m, outbound, "server:8080", "/", rate() / 2)))
    }

    async fn go_on(&self) {
        let total = || self.0.iter().map(|load| load.so_far().total()).sum::<u64>();
        let then = total();
        eventually("load goes on", 60, || async { (total() > then + between()).then_some(()) }).await;
    }
}

/// The application again, on its old port.
async fn again(name: &str, address: SocketAddr) -> Application {
    let listener = eventually("the port is free", 10, || async { TcpListener::bind(address).await.ok() }).await;
    Application::on(name, listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_with_warning_loses_nothing() {
    let Replicas { mesh, client, mut servers } = replicas("").await;
    let loads = Loads::start(client.outbound);
    loads.go_on().await;
    for (n, (application, sidecar)) in servers.iter_mut().enumerate() {
        let token = mesh.token("server").await;
        sidecar.process().signal(Signal::SIGTERM);
        let status = sidecar.process().ended(Duration::from_secs(40)).await;
        assert!(status.success(), "it drained: {status}\n{}", sidecar.log());
        application.stop();
        *application = again(&format!("server-{}", n + 1), application.address).await;
        sidecar.start(&mesh, &token).await;
        eventually("it gets requests again", 20, || async { (application.requests() > 0).then_some(()) }).await;
        loads.go_on().await;
    }
    for load in loads.0 {
        let report = load.stop().await;
        eprintln!("{} requests at {}/s, the slowest took {:?}", report.good, rate() / 2, report.slowest);
        report.assert_all_good(between());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_kills_lose_only_what_was_under_way_and_is_not_safe_to_repeat() {
    let Replicas { mesh, client, mut servers } = replicas("").await;
    let loads = Loads::start(client.outbound);
    loads.go_on().await;
    let mut kills = vec![];
    for (n, (application, sidecar)) in servers.iter_mut().enumerate() {
        let token = mesh.token("server").await;
        // Long enough under way that some are when it happens.
        application.counts.delay_ms.store(20, std::sync::atomic::Ordering::Relaxed);
        loads.go_on().await;
        let begun = Instant::now();
        sidecar.process().kill();
        application.stop();
        kills.push((begun, Instant::now()));
        loads.go_on().await;
        *application = again(&format!("server-{}", n + 1), application.address).await;
        sidecar.start(&mesh, &token).await;
        loads.go_on().await;
    }
    let [gets, posts] = loads.0;
    gets.stop().await.assert_all_good(between());
    let report = posts.stop().await;
    eprintln!("of {} POSTs were lost: {:?}", report.total(), report.bad);
    for begun in &report.begun {
        let (killed, gone) = kills
            .iter()
            .rev()
            .find(|(killed, _)| killed.checked_sub(Duration::from_secs(2)).is_some_and(|t| *begun > t))
            .expect("a kill");
        let latest = *gone + NOTICE;
        assert!(*begun <= latest, "begun {:?} after the kill at {killed:?}: {report:?}", *begun - *gone);
    }
    // With 20 ms each, so many are under way at a time on all three instances together.
    let under_way = u64::from(rate()) / 2 / 50 + 5;
    assert!(report.bad.values().sum::<u64>() <= 3 * under_way, "{report:?}");
}
