//! A new process takes over from a running sidecar where traffic is captured: nothing is cut, nothing refused.

use crate::{ECHO, HTTP, Pods, V4, V6, documents, open_to_all, ready, sidecar, upgrade_socket};
use std::{process::Command, time::Duration};
use weir_tests::{
    client, eventually,
    mesh::Mesh,
    peers,
    pods::{MIDDLE, Network, Pod},
    process::Process,
};

/// Has a new process take over, and waits until it has.
async fn take_over(mesh: &Mesh, pod: &Pod, workload: &str, mut command: Command) -> Process {
    command.args(["--capture", "15001", "--upgrade-from"]).arg(upgrade_socket(mesh, workload));
    let mut new = Process::start(&format!("{workload}-successor"), mesh.folder.path(), &mut command);
    let limit = std::time::Instant::now() + Duration::from_secs(30);
    while !new.log().contains("this process has taken over") {
        assert!(new.is_running() && std::time::Instant::now() < limit, "it does not take over:\n{}", new.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ready(pod, || new.log()).await;
    new
}

/// Waits until the client's sidecar, as it is now, has carried a number of connections.
async fn talked(pods: &Pods) {
    let told = "weir_protocol_detect_total{direction=\"outbound\",result=\"bytes\",method=\"client_bytes\"} ";
    eventually("they talk", 30, || async {
        let metrics = pods.metrics(&pods.client).await;
        let count = metrics.lines().find_map(|line| line.strip_prefix(told))?.parse::<u32>().ok()?;
        (count >= 40).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_process_takes_over_what_is_captured() {
    let Some(mut pods) = Pods::start(false, "").await else { return };
    pods.listening(&[ECHO]).await;
    let mut old = std::mem::take(&mut pods.sidecars);
    let (pods, stop) = (&pods, pods.mesh.folder.path().join("enough"));
    let (port, until) = (ECHO.to_string(), stop.to_str().expect("a name").to_owned());
    let (talk4, talk6) = (["talk", V4, &port, &until], ["talk", V6, &port, &until]);
    let upgrade = async {
        let detected = "weir_protocol_detect_total{direction=\"outbound\",result=\"bytes\"";
        eventually("they talk", 20, || async { pods.metrics(&pods.client).await.contains(detected).then_some(()) })
            .await;
        let mut new = vec![];
        for (pod, workload, account) in [(&pods.client, "client-1", "client"), (&pods.server, "server-1", "server")] {
            let command = sidecar(&pods.mesh, pod, workload, account).await;
            new.push(take_over(&pods.mesh, pod, workload, command).await);
            let metrics = pods.metrics(pod).await;
            // Two threads' sockets: outbound, captured over IPv4 and IPv6, inbound over both; the pages'; and questions'.
            assert!(metrics.contains("weir_upgrade_sockets 17"), "{metrics}");
        }
        // New connections are the new process's.
        talked(pods).await;
        std::fs::write(&stop, "").expect("a file");
        new
    };
    let (said4, said6, new) = tokio::join!(pods.try_plain(&talk4), pods.try_plain(&talk6), upgrade);
    for (content, said) in [said4, said6] {
        let times = said.trim().parse::<u32>();
        assert!(content && times.is_ok_and(|n| n >= 20), "{said}\n{}\n{}", new[0].log(), new[1].log());
    }
    for pod in [&pods.client, &pods.server] {
        let metrics = pods.metrics(pod).await;
        assert!(!metrics.contains("weir_connections_refused_total{"), "nothing was refused, or broken off:\n{metrics}");
    }
    for old in &mut old {
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        while old.is_running() {
            assert!(std::time::Instant::now() < limit, "it has nothing to do any more:\n{}", old.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn capture_may_begin_with_an_upgrade() {
    let Some(curl) = peers::find("curl") else { return };
    let Some(mut network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pod = network.pod("client", folder.path());
    let mesh = Mesh::start_on(MIDDLE.into(), &documents("10.9.0.9".parse().unwrap())).await;
    open_to_all(mesh.folder.path());
    let mut first = sidecar(&mesh, &pod, "client-1", "client").await;
    let first = Process::start("client-1", mesh.folder.path(), &mut first);
    ready(&pod, || first.log()).await;
    pod.capture(&[]).await;
    let second = sidecar(&mesh, &pod, "client-1", "client").await;
    let second = take_over(&mesh, &pod, "client-1", second).await;
    // What becomes of it is no matter: nobody is behind that service.
    let _ = pod.run(&curl, &["-sS", "-m", "1", &format!("http://{V4}:{HTTP}/")]).await;
    let metrics = client::text((pod.v4, 15020).into(), "metrics", "/metrics").await;
    assert!(metrics.contains("result=\"http1\",method=\"client_bytes\"} 1"), "{metrics}\n{}", second.log());
}
