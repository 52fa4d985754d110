//! Each sidecar of a service ended by SIGTERM and started again, one after the other, under load: nothing is lost.

use crate::replicas;
use nix::sys::signal::Signal;
use std::time::Duration;
use weir_tests::{eventually, load::Load};

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_of_all_sidecars_of_a_service_loses_nothing() {
    let mut replicas = replicas("").await;
    let load = Load::start(replicas.client.outbound, "server:8080", "/", 500);
    eventually("load runs", 10, || async { (load.so_far().good > 500).then_some(()) }).await;
    for n in 0..3 {
        let token = replicas.mesh.token("server").await;
        let sidecar = &mut replicas.servers[n].1;
        sidecar.process().signal(Signal::SIGTERM);
        let status = sidecar.process().ended(Duration::from_secs(40)).await;
        assert!(status.success(), "it drained: {status}\n{}", sidecar.log());
        sidecar.start(&replicas.mesh, &token).await;
        let then = load.so_far().good;
        eventually("load goes on", 10, || async { (load.so_far().good > then + 500).then_some(()) }).await;
    }
    load.stop().await.assert_all_good(2000);
}
