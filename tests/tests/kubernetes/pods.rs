//! Injected pods that run: the API server calls the webhook, a stand-in kubelet runs what comes out, captured, in network
//! namespaces of their own; and traffic flows with mutual TLS between pods with their own addresses.

use crate::installed::Installed;
use std::{collections::BTreeMap, process::Command};
use weir_tests::{
    client, eventually,
    kubelet::{Kubelet, Running, ZONE},
    peers,
    pods::{MIDDLE, Network},
    process::Process,
};

const PODS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: server}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      serviceAccountName: server
      containers:
      - name: server
        image: peer:1
        args: [serve, '8080', '2525', '7000']
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {serviceAccountName: client, containers: [{name: client, image: 'sleep:1', args: ['3600']}]}
";

/// What runs once; `{}`: annotations, and the address that it calls.
fn once(name: &str, annotations: &str, command: &str, address: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  backoffLimit: 0\n  template:\n    metadata: \
         {{annotations: {{{annotations}}}}}\n    spec:\n      serviceAccountName: client\n      restartPolicy: Never\n      \
         containers: [{{name: once, image: 'curl:1', {command} args: ['-sSf', 'http://{address}/once']}}]\n"
    )
}

/// Nobody may call anything, but the client the server.
const POLICY: &str = "
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: server}
spec: {action: Allow, rules: [{from: [{serviceAccounts: [client]}]}]}
";

struct World<'c> {
    kubelet: Kubelet<'c>,
    network: Network,
}

impl World<'_> {
    async fn run(&mut self, name: &str) -> Running {
        self.kubelet.run(&mut self.network, "default", name).await.unwrap_or_else(|why| panic!("{why}"))
    }
}

#[tokio::test]
async fn injected_pods_run_captured_are_probed_talk_with_mutual_tls_and_end() {
    let (Some(python), Some(curl), Some(sleep)) = (peers::python(), peers::find("curl"), peers::find("sleep")) else {
        return;
    };
    let Some(network) = Network::new() else { return };
    // Without a way out the API server does not know its own address.
    let route = Command::new("ip").args(["route", "add", "default", "dev", "br0"]).status().expect("ip");
    assert!(route.success());
    let Some(installed) = Installed::start_on(MIDDLE.into()).await else { return };
    let cluster = &installed.cluster;
    cluster.kubectl(&["label", "namespace", "default", "weir.dev/inject=enabled"]).await;
    cluster.apply(PODS).await;
    cluster.apply(POLICY).await;
    let peer = format!("{}/peers/captured_peer.py", env!("CARGO_MANIFEST_DIR"));
    let programs = [
        ("peer", vec![python.display().to_string(), peer]),
        ("sleep", vec![sleep.display().to_string()]),
        ("curl", vec![curl.display().to_string()]),
    ];
    let kubelet = Kubelet::new(cluster, installed.mesh.folder.path(), BTreeMap::from(programs));
    let mut world = World { kubelet, network };
    let service = cluster.get(&["service", "server"]).await;
    let address = service["spec"]["clusterIP"].as_str().expect("an address").to_owned();

    let names = installed
        .until("three pods", async || {
            let pods = installed.pods("default").await;
            let names: Vec<_> = pods.iter().filter_map(|p| Some(p["metadata"]["name"].as_str()?.to_owned())).collect();
            (names.len() == 3).then_some(names)
        })
        .await;
    let mut running = vec![];
    for name in &names {
        running.push(world.run(name).await);
    }
    for pod in &mut running {
        eventually("it is ready", 30, async || pod.is_ready().await.then_some(())).await;
        world.kubelet.report(pod).await;
    }
    // The cluster's own controller has taken the probes' word: both servers are endpoints.
    installed
        .until("two endpoints", async || {
            let arguments = ["endpointslices", "-l", "kubernetes.io/service-name=server"];
            let slices = cluster.get(&arguments).await;
            let endpoints = slices["items"][0]["endpoints"].as_array()?;
            (endpoints.iter().filter(|e| e["conditions"]["ready"] == true).count() == 2).then_some(())
        })
        .await;
    assert_eq!(
        running[0].object["metadata"]["labels"]["topology.kubernetes.io/zone"], ZONE,
        "the sidecar knows its place"
    );
    traffic(&running, &curl, &address).await;
    deletion(&installed, &mut running, &curl, &address).await;
    for (name, annotations, command) in [
        ("native", "", ""),
        ("classic", "config.weir.dev/native-sidecar: disabled", &*format!("command: ['{}'],", curl.display())),
    ] {
        job(&installed, &mut world, &once(name, annotations, command, &address), name).await;
    }
    let log = installed.mesh.control_plane.as_ref().map(Process::log).unwrap_or_default();
    assert!(!log.contains("orbidden"), "the rights of the manifests are not enough:\n{log}");
}

async fn traffic(running: &[Running], curl: &std::path::Path, address: &str) {
    let is = |pod: &&Running, account: &str| pod.object["spec"]["serviceAccountName"] == account;
    let caller = running.iter().find(|pod| is(pod, "client")).expect("a client");
    let servers: Vec<_> = running.iter().filter(|pod| is(pod, "server")).collect();
    for n in 0..10 {
        let uri = format!("http://{address}/x{n}");
        let (content, said) = caller.pod.run(curl, &["-sSf", "-m", "10", &uri]).await;
        assert!(
            content && said == format!("GET /x{n} scratchless\n"),
            "{said}\n{}\n--\n{}",
            caller.log(),
            servers[0].log()
        );
    }
    let metrics = client::text((caller.pod.v4, 15020).into(), "metrics", "/metrics").await;
    let mutual = metrics.lines().find(|l| l.starts_with("weir_requests_total") && l.contains("tls=\"mutual\""));
    assert!(
        mutual.is_some_and(|l| l.contains("destination=\"server.default.svc.cluster.local:80\"") && l.ends_with(" 10")),
        "{metrics}"
    );
    for server in &servers {
        // From the node, in plain text: the probe, and nothing else.
        let to = (server.pod.v4, 8080).into();
        let status = async |path: &str| client::get(to, "x", path).await.map(|answer| answer.status().as_u16()).ok();
        assert_eq!((status("/healthz").await, status("/x").await), (Some(200), Some(503)));
        // With an identity, and not the right one.
        let uri = format!("http://{address}/x");
        let (_, said) = server.pod.run(curl, &["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", &uri]).await;
        assert_eq!(said, "403");
    }
}

/// A pod is deleted while its service is called, one request after the other: none is lost.
async fn deletion(installed: &Installed, running: &mut Vec<Running>, curl: &std::path::Path, address: &str) {
    let is = |pod: &Running, account: &str| pod.object["spec"]["serviceAccountName"] == account;
    let place = running.iter().position(|pod| is(pod, "server")).expect("a server");
    let mut leaving = running.remove(place);
    let caller = running.iter().find(|pod| is(pod, "client")).expect("a client");
    let uri = format!("http://{address}/x[1-8000]");
    let mut load = caller.pod.command(curl);
    // Calls that nobody may send twice, ten of them at each server at any time.
    load.args(["--no-progress-meter", "-m", "120", "-Z", "--parallel-max", "20", "-X", "POST"]);
    load.args(["-o", "/dev/null", "-w", "%{http_code}\\n", &uri]);
    let mut load = Process::start("load", installed.mesh.folder.path(), &mut load);
    let name = leaving.object["metadata"]["name"].as_str().unwrap().to_owned();
    let begun = std::time::Instant::now();
    while load.log().lines().count() < 200 {
        let state = || format!("{}\n{}", load.log(), caller.log());
        assert!(begun.elapsed().as_secs() < 30, "it is not called:\n{}", state());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    installed.cluster.kubectl(&["delete", "pod", &name, "--wait=false"]).await;
    assert!(leaving.end().await, "{}", leaving.log());
    installed.cluster.kubectl(&["delete", "pod", &name, "--grace-period=0", "--force"]).await;
    load.ended(std::time::Duration::from_secs(60)).await;
    let said = load.log();
    let lost: Vec<_> = said.lines().filter(|status| *status != "200").take(5).collect();
    assert!(
        lost.is_empty() && said.lines().count() == 8000,
        "{} calls, {lost:?}:\n{}",
        said.lines().count(),
        caller.log()
    );
}

/// A job ends with its application: its pod, its sidecar, and so the job.
async fn job(installed: &Installed, world: &mut World<'_>, document: &str, name: &str) {
    let cluster = &installed.cluster;
    cluster.apply(document).await;
    let pod = installed
        .until("the job's pod", async || {
            let pods = cluster.get(&["pods", "-l", &format!("job-name={name}")]).await;
            pods["items"][0]["metadata"]["name"].as_str().map(str::to_owned)
        })
        .await;
    let mut running = world.run(&pod).await;
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let well = loop {
        if let Some(well) = running.ended() {
            break well;
        }
        assert!(std::time::Instant::now() < limit, "{name} does not end:\n{}", running.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(well, "{name}:\n{}", running.log());
    assert!(running.log().contains("GET /once scratchless"), "{}", running.log());
    assert!(running.end_sidecars().await, "{name}:\n{}", running.log());
    world.kubelet.report(&mut running).await;
    cluster.kubectl(&["wait", "--for=condition=complete", "--timeout=60s", &format!("job/{name}")]).await;
}
