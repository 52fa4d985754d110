//! Control planes and members of etcd die under load and changes.

use crate::{World, long, number, page};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use weir_tests::{eventually, load::Load, mesh::service};

const RATE: u32 = 100;

/// Changes, one after the other, until told to stop: how many were acknowledged, with the `from` before.
async fn changes(world: &World, stop: &AtomicBool, from: u64) -> u64 {
    let (mut n, mut last) = (from, 0);
    while !stop.load(Ordering::Relaxed) {
        // A new document each time, and one that is changed each time and that the sidecars hold.
        let policy = format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: server}}\nspec:\n  targetRefs: [{{kind: Service, name: server}}]\n  timeouts: {{request: {}ms}}\n",
            15_000 + n
        );
        let version = world.apply(&(service(&format!("extra-{n}"), 80, "http") + &policy)).await;
        assert!(version >= last, "{version} after {last}");
        last = version;
        n += 1;
    }
    n
}

/// Everything that was acknowledged is there, everywhere.
async fn nothing_is_lost(world: &World, made: u64) {
    let version = world.converged().await;
    for plane in &world.planes {
        let services = page(plane.api, "/api/v1/services").await.expect("the services");
        assert_eq!(services["items"].as_array().map(Vec::len), Some(1 + made as usize));
        let policies = page(plane.api, "/api/v1/trafficpolicies").await.expect("the policies");
        let timeout = &policies["items"][0]["spec"]["timeouts"]["request"];
        assert_eq!(timeout.as_str().map(str::to_owned), Some(format!("{}ms", 15_000 + made - 1)), "{policies}");
    }
    eprintln!("{made} changes, version {version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_planes_killed_in_turn_cost_no_request_and_no_change() {
    let Some(mut world) = World::start(&["--certificate-seconds", "15"]).await else { return };
    let (whole, every) = if long() { (120, 10) } else { (32, 8) };
    let load = Load::start(world.client.outbound, "server:8080", "/", RATE);
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let mut made = 0;
    for kill in 0.. {
        if begun.elapsed() > Duration::from_secs(whole) {
            break;
        }
        stop.store(false, Ordering::Relaxed);
        let n = kill % world.planes.len();
        // At any moment: while a change is being made, too.
        let mut victim = world.planes[n].control_plane.take().expect("a control plane");
        let ((), more) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                victim.kill();
                tokio::time::sleep(Duration::from_secs(every - 4)).await;
                stop.store(true, Ordering::Relaxed);
            },
            changes(&world, &stop, made)
        );
        made = more;
        world.planes[n].start_control_plane().await;
    }
    let report = load.stop().await;
    eprintln!("{} requests, the slowest took {:?}", report.good, report.slowest);
    report.assert_all_good(whole * u64::from(RATE) * 8 / 10);
    nothing_is_lost(&world, made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcds_leader_killed_and_a_partition_healed_cost_nothing() {
    let Some(mut world) = World::start(&["--certificate-seconds", "15"]).await else { return };
    let load = Load::start(world.client.outbound, "server:8080", "/", RATE);
    let pause = Duration::from_secs(if long() { 15 } else { 5 });
    let mut made = 0;
    for round in 0..if long() { 6 } else { 2 } {
        let leader = world.etcd.leader().expect("a leader");
        let stop = AtomicBool::new(false);
        if round % 2 == 0 {
            world.etcd.kill(leader);
        } else {
            world.etcd.pause(leader);
        }
        let waited = async {
            tokio::time::sleep(pause).await;
            stop.store(true, Ordering::Relaxed);
        };
        let before = made;
        ((), made) = tokio::join!(waited, changes(&world, &stop, before));
        assert!(made > before, "no change went through without a member of etcd");
        if round % 2 == 0 {
            world.etcd.start_member(leader);
        } else {
            world.etcd.resume(leader);
        }
        world.converged().await;
    }
    let report = load.stop().await;
    report.assert_all_good(5 * u64::from(RATE));
    nothing_is_lost(&world, made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_moves_to_another_replica_receives_nothing_again() {
    let Some(mut world) = World::start(&[]).await else { return };
    world.converged().await;
    // All sidecars to one replica, by taking the others away, so that the one they go to next has never seen them.
    world.planes[1].control_plane = None;
    world.planes[2].control_plane = None;
    world.converged_on(0).await;
    world.planes[1].start_control_plane().await;
    world.planes[0].control_plane = None;
    world.converged_on(1).await;
    assert_eq!(number(&world.planes[1], "weir_cp_push_bytes_total").await, Some(0.0), "all was there already");
    assert_eq!(number(&world.planes[1], "weir_cp_nacks_total").await, Some(0.0));
    // And what changes from then on comes.
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: server}\nspec:\n  targetRefs: [{kind: Service, name: server}]\n  timeouts: {request: 9s}\n";
    world.planes[1].apply(policy).await;
    eventually("the change reaches them", 10, || async {
        number(&world.planes[1], "weir_cp_push_bytes_total").await.filter(|bytes| *bytes > 0.0)
    })
    .await;
}

impl World {
    /// All sidecars are with this replica and hold everything.
    async fn converged_on(&self, n: usize) {
        eventually("all sidecars are with one replica", 30, || async {
            let version = page(self.planes[n].api, "/api/v1/version").await?["resourceVersion"].as_u64()?;
            let proxies = page(self.planes[n].api, "/api/v1/proxies").await?;
            let here = proxies["items"].as_array()?;
            let settled = here.iter().filter(|p| p["connected"] == true && p["appliedVersion"] == version).count();
            (settled == 1 + self.servers.len()).then_some(())
        })
        .await;
    }
}
