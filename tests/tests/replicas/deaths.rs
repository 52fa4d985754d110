//! Control planes and members of etcd die under load and changes.

use crate::{World, long, number, page};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use weir_tests::{
    client::{get, text},
    eventually,
    load::Load,
    mesh::service,
};

const RATE: u32 = 100;

/// What is changed, the `n`th time: a new document, and some that the sidecars hold.
pub(crate) fn change(n: u64) -> String {
    let both = format!(
        "---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: server, namespace: default}}
spec:
  targetRefs: [{{kind: Service, name: server}}]
  timeouts: {{request: {}ms}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: server, namespace: default}}
spec:
  parentRefs: [{{group: '', kind: Service, name: server}}]
  rules:
    - filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {{set: [{{name: x-change, value: 'n{n}'}}]}}
      backendRefs: [{{name: server, port: 8080}}]
",
        15_000 + n
    );
    service(&format!("extra-{n}"), 80, "http") + &both
}

/// Changes, one after the other, until told to stop: how many were acknowledged, with the `from` before.
async fn changes(world: &World, stop: &AtomicBool, from: u64) -> u64 {
    let mut n = from;
    while !stop.load(Ordering::Relaxed) {
        world.apply(&(change(n) + &world.backing.slice(n))).await;
        n += 1;
    }
    n
}

/// Everything that was acknowledged is there, everywhere, and in use.
pub(crate) async fn nothing_is_lost(world: &World, made: u64) {
    let begun = Instant::now();
    let last = format!("n{}", made - 1);
    eventually("the last change is in use", 30, || async {
        let answer = get(world.client.outbound, "server:8080", "/").await.ok()?;
        answer.headers().get("x-change").is_some_and(|v| *v == *last).then_some(())
    })
    .await;
    if let Some(behind) = world.backing.behind(made - 1) {
        let known = || async {
            get(world.client.outbound, "byhand:80", "/").await.ok().filter(|a| a.status() == 503)?;
            let page = text(world.client.admin, "localhost", "/clusters").await;
            page.contains(&behind).then_some(())
        };
        eventually("the last endpoints are known", 30, known).await;
    }
    world.converged().await;
    for plane in &world.planes {
        let services = page(plane.api, "/api/v1/services").await.expect("the services");
        let names = services["items"].as_array().into_iter().flatten().filter_map(|s| s["metadata"]["name"].as_str());
        let extra: BTreeSet<_> = names.filter(|name| name.starts_with("extra-")).map(str::to_owned).collect();
        assert_eq!(extra, (0..made).map(|n| format!("extra-{n}")).collect());
        let policies = page(plane.api, "/api/v1/trafficpolicies").await.expect("the policies");
        let timeout = &policies["items"][0]["spec"]["timeouts"]["request"];
        assert_eq!(timeout.as_str().map(str::to_owned), Some(format!("{}ms", 15_000 + made - 1)), "{policies}");
    }
    eprintln!("{made} changes, all as one {:?} after the last", begun.elapsed());
}

/// One control plane after the other is killed and started again, under load and changes.
pub(crate) async fn killed_in_turn(mut world: World) {
    let (whole, every) = if long() { (120, 10) } else { (32, 8) };
    let load = Load::start(world.client.outbound, "server:8080", "/", RATE);
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let (mut made, mut kills) = (0, 0);
    while begun.elapsed() < Duration::from_secs(whole) {
        stop.store(false, Ordering::Relaxed);
        let (n, turn) = (kills % world.planes.len(), Instant::now());
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
        kills += 1;
        world.planes[n].start_control_plane().await;
        tokio::time::sleep(Duration::from_secs(every).saturating_sub(turn.elapsed())).await;
    }
    let report = load.stop().await;
    eprintln!(
        "{} requests in {:?} with {kills} kills, the slowest took {:?}",
        report.good,
        begun.elapsed(),
        report.slowest
    );
    report.assert_all_good(whole * u64::from(RATE) * 8 / 10);
    nothing_is_lost(&world, made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_planes_killed_in_turn_cost_no_request_and_no_change() {
    let Some(world) = World::start(&["--certificate-seconds", "15"]).await else { return };
    killed_in_turn(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcds_leader_killed_and_a_partition_healed_cost_nothing() {
    let Some(mut world) = World::start(&["--certificate-seconds", "15"]).await else { return };
    let load = Load::start(world.client.outbound, "server:8080", "/", RATE);
    let pause = Duration::from_secs(if long() { 15 } else { 5 });
    let mut made = 0;
    for round in 0..if long() { 6 } else { 2 } {
        let leader = world.backing.members().leader().expect("a leader");
        let stop = AtomicBool::new(false);
        if round % 2 == 0 {
            world.backing.members().kill(leader);
        } else {
            world.backing.members().pause(leader);
        }
        let waited = async {
            tokio::time::sleep(pause).await;
            stop.store(true, Ordering::Relaxed);
        };
        let before = made;
        ((), made) = tokio::join!(waited, changes(&world, &stop, before));
        assert!(made > before, "no change went through without a member of etcd");
        if round % 2 == 0 {
            world.backing.members().start_member(leader);
        } else {
            world.backing.members().resume(leader);
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
