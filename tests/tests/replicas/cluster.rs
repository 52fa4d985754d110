//! Three control planes that have nothing but the Kubernetes API: replicas die, and the API server is away.

use crate::{World, deaths, long, page};
use std::time::{Duration, Instant};
use weir_tests::{client::get, eventually, free_port, load::Load, mesh::workload};

const RATE: u32 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn control_planes_killed_in_turn_cost_no_request_and_no_change() {
    let Some(world) = World::start_in_cluster(&["--certificate-seconds", "15"]).await else { return };
    deaths::killed_in_turn(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_away_for_long_touches_nothing_and_all_goes_on_without_a_restart() {
    let Some(mut world) = World::start_in_cluster(&["--certificate-seconds", "15"]).await else { return };
    world.apply(&(deaths::change(0) + &world.backing.slice(0))).await;
    deaths::nothing_is_lost(&world, 1).await;
    // Another caller, which has called before.
    let port = free_port();
    world.apply(&workload("client-2", "client", 9, port)).await;
    // With who is in the slice.
    world.backing.known(&world.planes, "/api/v1/workloads", 5).await;
    let mut second = world.planes[0].sidecar_with("client-2", "client", port, &[]).await;
    let answers = |outbound| async move {
        let answer = get(outbound, "server:8080", "/").await.ok()?;
        (answer.status() == 200 && answer.headers().contains_key("x-change")).then_some(())
    };
    eventually("it calls", 20, || answers(second.outbound)).await;
    let load = Load::start(world.client.outbound, "server:8080", "/", RATE);
    eventually("it has kept what it uses", 20, || async { saved(&second.state(&world.planes[0])).then_some(()) }).await;

    let (away, begun) = (Duration::from_secs(if long() { 60 } else { 10 }), Instant::now());
    world.backing.in_cluster().kill_api();
    // A sidecar that restarts serves from what it had, with the certificate that it had.
    second.process().kill();
    second.start(&world.planes[0], "nobody-can-review-this").await;
    eventually("it calls again", 10, || answers(second.outbound)).await;
    // A control plane that restarts has nothing, says so, and waits.
    world.planes[2].control_plane().kill();
    world.planes[2].spawn_control_plane();
    eventually("it says what it waits for", 20, || async {
        let log = world.planes[2].control_plane.as_ref()?.log();
        log.contains("starts when the API server answers").then_some(())
    })
    .await;
    let mut calls = 0;
    while begun.elapsed() < away {
        answers(second.outbound).await.expect("nothing is known otherwise");
        calls += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(calls > 20, "only {calls}");
    let running = world.planes.iter_mut().all(|plane| plane.control_plane().is_running());
    assert!(running, "nobody gave up");
    world.backing.in_cluster().start_api().await;
    let back = Instant::now();
    world.apply(&(deaths::change(1) + &world.backing.slice(1))).await;
    eventually("who was started meanwhile is there", 60, || async {
        page(world.planes[2].api, "/api/v1/version").await.map(drop)
    })
    .await;
    eprintln!("the API server was away for {:?}; after {:?} all replicas answer", back - begun, back.elapsed());
    // The second caller is one more.
    world.servers.push(second);
    deaths::nothing_is_lost(&world, 2).await;
    let report = load.stop().await;
    eprintln!("{} requests, the slowest took {:?}", report.good, report.slowest);
    report.assert_all_good(away.as_secs() * u64::from(RATE) * 8 / 10);
}

/// Whether a sidecar has kept a configuration on disk that has the newest route.
fn saved(state: &std::path::Path) -> bool {
    let files = std::fs::read_dir(state).into_iter().flatten().flatten();
    let has = |path: std::path::PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(8).any(|part| part == b"x-change"))
    };
    files.map(|file| file.path()).any(has)
}
