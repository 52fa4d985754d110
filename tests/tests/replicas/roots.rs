//! The root of the mesh is exchanged under load, also by replicas that are killed in the middle of it.

use crate::{World, long, page};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weir_tests::{eventually, free_port, load::Load, mesh::workload, wire::Wire};

const RATE: u32 = 100;
/// Certificates live so long that each rotation meets old and new ones.
const SHORT: &[&str] = &["--certificate-seconds", "12"];

/// Connections that are made anew, each with handshakes between the sidecars: requests on kept ones would not notice
/// what is wrong with certificates.
struct Handshakes {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, Vec<String>)>,
}

impl Handshakes {
    fn start(outbound: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let task = tokio::spawn(async move {
            let (mut good, mut bad) = (0, Vec::new());
            while !told.load(Ordering::Relaxed) {
                match tokio::time::timeout(Duration::from_secs(10), once(outbound)).await {
                    Ok(Ok(())) => good += 1,
                    Ok(Err(why)) => bad.push(why.to_string()),
                    Err(_) => bad.push("no answer".into()),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (good, bad)
        });
        Self { stop, task }
    }

    async fn assert_all_good(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (good, bad) = self.task.await.expect("handshakes");
        eprintln!("{good} connections were made anew");
        assert!(bad.is_empty(), "{} of {}: {:?}", bad.len(), good + bad.len() as u64, &bad[..bad.len().min(10)]);
        assert!(good > 200, "only {good}");
    }
}

/// A tunnel of its own through both sidecars, and one request in it.
async fn once(outbound: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(outbound).await?;
    let mut answer = vec![0; 1024];
    for ask in ["CONNECT server:8080 HTTP/1.1\r\nhost: server:8080\r\n\r\n", "GET / HTTP/1.1\r\nhost: server\r\n\r\n"] {
        stream.write_all(ask.as_bytes()).await?;
        let n = stream.read(&mut answer).await?;
        if !answer[..n].starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&answer[..n.min(300)]).into_owned()));
        }
    }
    Ok(())
}

async fn rotation(world: &World) -> Option<serde_json::Value> {
    for plane in world.planes.iter().filter(|p| p.control_plane.is_some()) {
        if let Some(found) = page(plane.api, "/api/v1/rotation").await {
            return Some(found);
        }
    }
    None
}

async fn phase(world: &World, expected: &str) {
    eventually(&format!("the phase {expected}"), 90, || async {
        (rotation(world).await?["phase"].as_str() == Some(expected)).then_some(())
    })
    .await;
}

async fn over(world: &World) -> serde_json::Value {
    eventually("the rotation is over", 90, || async { rotation(world).await.filter(|r| r["phase"].is_null()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_rotated_again_and_again_cost_no_request() {
    let Some(world) = World::start(SHORT).await else { return };
    rotated(&world, if long() { 10 } else { 3 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_are_kept_in_a_cluster_are_rotated_alike() {
    let Some(world) = World::start_in_cluster(SHORT).await else { return };
    rotated(&world, if long() { 10 } else { 1 }).await;
}

/// One rotation after the other, in the long form one a minute, under load.
async fn rotated(world: &World, rounds: usize) {
    let load = Load::start(world.client.outbound, "server:8080", "/", RATE);
    let handshakes = Handshakes::start(world.client.outbound);
    let begun = Instant::now();
    let mut issuers = std::collections::BTreeSet::new();
    issuers.insert(rotation(world).await.unwrap()["issuer"].to_string());
    for round in 0..rounds {
        let rotated = Instant::now();
        // Any replica can be told; the one that leads does it.
        let said = world.weir(round % 3, &["rotate-anchor", "--wait"]).unwrap_or_else(|e| panic!("{e}"));
        assert!(said.contains("the last one: done") && said.contains("Trusted roots: 1"), "{said}");
        let now = over(world).await;
        assert!(issuers.insert(now["issuer"].to_string()), "a new one signs: {now}");
        eprintln!("rotation {round} took {:?}", rotated.elapsed());
        if long() {
            tokio::time::sleep(Duration::from_secs(60).saturating_sub(rotated.elapsed())).await;
        }
    }
    let report = load.stop().await;
    eprintln!("{} requests in {:?}, the slowest took {:?}", report.good, begun.elapsed(), report.slowest);
    report.assert_all_good(500);
    handshakes.assert_all_good().await;
    // The sidecars hold the one root that is left, and show a certificate of it.
    for sidecar in world.servers.iter().chain([&world.client]) {
        assert!(sidecar.log().contains("certificates are of another issuer now"), "{}", sidecar.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_interrupted_in_each_phase_goes_on() {
    let Some(mut world) = World::start(SHORT).await else { return };
    let load = Load::start(world.client.outbound, "server:8080", "/", RATE);
    let handshakes = Handshakes::start(world.client.outbound);
    world.weir(0, &["rotate-anchor", "--hold"]).unwrap_or_else(|e| panic!("{e}"));
    let refused = world.weir(1, &["rotate-anchor"]).unwrap_err();
    assert!(refused.contains("--abort") && refused.contains("--resume"), "{refused}");
    for (expected, next) in [("spreading", "renewing"), ("renewing", "retiring"), ("retiring", "")] {
        phase(&world, expected).await;
        // All replicas at once, and nothing but the store knows of it.
        for plane in &mut world.planes {
            plane.control_plane = None;
        }
        for plane in &mut world.planes {
            plane.start_control_plane().await;
        }
        let status = world.weir(2, &["rotate-anchor", "--status"]).unwrap_or_else(|e| panic!("{e}"));
        assert!(status.contains(expected) && status.contains("held"), "{status}");
        world.weir(1, &["rotate-anchor", "--resume"]).unwrap_or_else(|e| panic!("{e}"));
        if next.is_empty() {
            assert_eq!(over(&world).await["last"], "done");
        } else {
            phase(&world, next).await;
            world.weir(1, &["rotate-anchor", "--hold"]).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    // Begun again, and the one that leads is killed in the middle of it.
    let before = over(&world).await["issuer"].clone();
    world.weir(0, &["rotate-anchor"]).unwrap_or_else(|e| panic!("{e}"));
    let leader = eventually("somebody leads", 30, || world.leader()).await;
    world.planes[leader].control_plane = None;
    // A replica that has not looked at the store since does not know yet that there is anything to end.
    let after = eventually("the rotation is over, and a new one signs", 90, || async {
        rotation(&world).await.filter(|r| r["phase"].is_null() && r["issuer"] != before)
    })
    .await;
    world.planes[leader].start_control_plane().await;
    // And taken back after the new one has signed.
    world.weir(0, &["rotate-anchor", "--hold"]).unwrap_or_else(|e| panic!("{e}"));
    world.weir(0, &["rotate-anchor", "--force"]).unwrap_or_else(|e| panic!("{e}"));
    phase(&world, "renewing").await;
    world.weir(1, &["rotate-anchor", "--abort"]).unwrap_or_else(|e| panic!("{e}"));
    let back = over(&world).await;
    assert_eq!((&back["last"], &back["issuer"]), (&"aborted".into(), &after["issuer"]));
    load.stop().await.assert_all_good(500);
    handshakes.assert_all_good().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_from_the_store_is_waited_for_with_its_sidecars() {
    let Some(mut world) = World::start(SHORT).await else { return };
    // The third replica reaches etcd by wires, and a sidecar is with it alone.
    let mut wires = Vec::new();
    for member in world.backing.members().addresses() {
        wires.push(Wire::to(member).await);
    }
    let ways: Vec<_> = wires.iter().map(|wire| format!("http://{}", wire.address)).collect();
    let plane = &mut world.planes[2];
    plane.control_plane().kill();
    let at = plane.extra.iter().position(|a| a == "--etcd-endpoints").expect("an argument");
    plane.extra[at + 1] = ways.join(",");
    plane.start_control_plane().await;
    let port = free_port();
    world.apply(&workload("client-2", "client", 9, port)).await;
    world.backing.known(&world.planes, "/api/v1/workloads", 4).await;
    let loyal = world.planes[2].sidecar_with("client-2", "client", port, SHORT).await;
    eventually("it calls", 20, || async { once(loyal.outbound).await.ok() }).await;
    let handshakes = Handshakes::start(loyal.outbound);
    // Its replica has told the others who is with it.
    world.weir(0, &["rotate-anchor", "--hold"]).unwrap_or_else(|e| panic!("{e}"));
    eventually("all have reported", 30, || async {
        let now = page(world.planes[0].api, "/api/v1/rotation").await?;
        (now["replicas"] == 3 && now["unaware"] == 0 && now["behind"] == 0 && now["proxies"] == 4).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    wires.iter().for_each(Wire::cut);
    world.weir(0, &["rotate-anchor", "--force"]).unwrap_or_else(|e| panic!("{e}"));
    phase(&world, "renewing").await;
    world.weir(0, &["rotate-anchor", "--resume"]).unwrap_or_else(|e| panic!("{e}"));
    // Far longer than a replica that has died is waited for.
    let cut = Instant::now();
    eventually("it is told whom it waits for", 60, || async {
        let now = rotation(&world).await?;
        let named = now["names"].as_array()?.iter().any(|name| name == "default/client-2");
        (named && now["behind"] == 1 && now["replicas"] == 2).then_some(())
    })
    .await;
    while cut.elapsed() < Duration::from_secs(18) {
        let now = page(world.planes[0].api, "/api/v1/rotation").await.expect("a replica");
        assert_eq!(now["phase"], "renewing", "{now}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    wires.iter().for_each(Wire::mend);
    assert_eq!(over(&world).await["last"], "done");
    handshakes.assert_all_good().await;
}
