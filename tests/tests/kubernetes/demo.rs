//! The demonstration's manifests, untouched, in a cluster with Weir: every pod of them runs with its sidecar, viewers watch, all
//! calls between pods are mutual TLS; and what `kubectl` says of routes and policies holds as soon as it is told to.

use crate::installed::Installed;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use weir_tests::{
    client, eventually,
    kubelet::{Kubelet, Running},
    peers,
    pods::{MIDDLE, Network},
    process::Process,
};

/// The next version of a service, beside the one of the manifests.
const NEXT: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog-next, namespace: demo}
spec: {selector: {app: catalog-next}, ports: [{name: http, port: 9080, targetPort: 9080, appProtocol: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: catalog-next, namespace: demo, labels: {app: catalog-next}}
spec:
  serviceAccountName: catalog
  containers:
  - name: catalog
    image: weir-demo:0.1.0
    command: [/weir-demo, service, catalog, '--listen=0.0.0.0:9080', '--admin=0.0.0.0:8099']
    readinessProbe: {httpGet: {path: /healthz, port: 8099}}
";

/// How many of a hundred calls the next version gets.
fn split(next: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: catalog, namespace: demo}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: catalog}}]\n  rules:\n  - backendRefs:\n    - {{name: catalog, port: \
         9080, weight: {}}}\n    - {{name: catalog-next, port: 9080, weight: {next}}}\n",
        100 - next
    )
}

const DENIED: &str = "
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-viewers, namespace: demo}
spec:
  targetRefs: [{kind: Service, name: playback}]
  action: Deny
  rules: [{from: [{serviceAccounts: [viewers]}]}]
";

const FAULT: &str = "
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: broken-catalog, namespace: demo}
spec:
  targetRefs: [{kind: HTTPRoute, name: catalog}]
  fault: {abort: {httpStatus: 418}}
";

struct Demo<'c> {
    installed: &'c Installed,
    kubelet: Kubelet<'c>,
    network: Network,
    running: Vec<Running>,
    curl: PathBuf,
}

#[tokio::test]
async fn the_demo_runs_untouched_with_mutual_tls_and_kubectl_changes_its_routes_and_policies() {
    let (Some(curl), Some(tcpdump)) = (peers::find("curl"), peers::find("tcpdump")) else { return };
    let Some(network) = Network::new() else { return };
    // Without a way out the API server does not know its own address.
    let route = Command::new("ip").args(["route", "add", "default", "dev", "br0"]).status().expect("ip");
    assert!(route.success());
    let Some(installed) = Installed::start_on(MIDDLE.into()).await else { return };
    let cluster = &installed.cluster;
    cluster.kubectl(&["apply", "-k", platform("").to_str().unwrap()]).await;
    let kubelet = Kubelet::new(cluster, installed.mesh.folder.path(), BTreeMap::new());
    let mut demo = Demo { installed: &installed, kubelet, network, running: vec![], curl };
    demo.start().await;
    let wire = demo.watch_the_wire(&tcpdump).await;
    demo.viewers().await;
    demo.calls_are_mutual_tls(wire).await;
    demo.routes().await;
    demo.policies().await;
    demo.refusals().await;
    let log = installed.mesh.control_plane.as_ref().map(Process::log).unwrap_or_default();
    assert!(!log.contains("orbidden"), "the rights of the manifests are not enough:\n{log}");
}

impl Demo<'_> {
    /// All pods of the manifests, as the API server has made them, until the cluster says that they are there.
    async fn start(&mut self) {
        let cluster = &self.installed.cluster;
        let deployments = cluster.get(&["-n", "demo", "deployments"]).await;
        let replicas = |d: &Value| d["spec"]["replicas"].as_u64().unwrap_or(1);
        let all: u64 = deployments["items"].as_array().expect("a list").iter().map(replicas).sum();
        let names = self
            .installed
            .until("all pods", async || {
                let pods = self.installed.pods("demo").await;
                let name = |p: &Value| p["metadata"]["name"].as_str().map(str::to_owned);
                (pods.len() as u64 == all).then(|| pods.iter().filter_map(name).collect::<Vec<_>>())
            })
            .await;
        self.run(&names).await;
        for pod in &self.running {
            let first: Vec<_> = pod.object["spec"]["initContainers"].as_array().into_iter().flatten().collect();
            assert!(first.len() == 2 && first[1]["name"] == "weir-proxy", "{:#}", pod.object);
        }
        cluster
            .kubectl(&["-n", "demo", "wait", "--for=condition=Available", "deployment", "--all", "--timeout=60s"])
            .await;
    }

    async fn run(&mut self, names: &[String]) {
        let mut running = self.kubelet.run_all(&mut self.network, "demo", names).await;
        for pod in &mut running {
            eventually("it is ready", 30, async || pod.is_ready().await.then_some(())).await;
            self.kubelet.report(pod).await;
        }
        self.running.append(&mut running);
    }

    fn pod(&self, account: &str) -> &Running {
        let found = self.running.iter().find(|pod| pod.object["spec"]["serviceAccountName"] == account);
        found.unwrap_or_else(|| panic!("no pod of {account}"))
    }

    /// What crosses the network of a pod of `web`, to a file.
    async fn watch_the_wire(&self, tcpdump: &Path) -> (Process, PathBuf) {
        let folder = self.installed.mesh.folder.path();
        let file = folder.join("wire.pcap");
        let arguments = ["-i", "eth0", "-U", "-Z", "root", "-w", file.to_str().unwrap(), "tcp"];
        let process = self.pod("web").pod.start("tcpdump", folder, tcpdump, &arguments);
        eventually("it listens", 30, async || process.log().contains("listening on").then_some(())).await;
        (process, file)
    }

    /// Each viewer logs in, sees a home page and watches; nothing of it fails.
    async fn viewers(&mut self) {
        let manifest = std::fs::read_to_string(platform("viewers.yaml")).expect("a manifest");
        let few =
            manifest.replace("--rate=5, --seconds=60", "--rate=2, --seconds=6, --segments=2, --segment-bytes=65536");
        assert!(few != manifest, "viewers.yaml says something else than this test knows");
        self.apply(&few).await;
        self.run(&["viewers".to_owned()]).await;
        let limit = std::time::Instant::now() + Duration::from_secs(60);
        let viewers = self.running.last_mut().expect("viewers");
        while viewers.ended().is_none() {
            assert!(std::time::Instant::now() < limit, "they do not end:\n{}", viewers.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = viewers.log();
        for kind in ["login", "home", "manifest", "segment", "heartbeat"] {
            let line = said.lines().find(|l| l.starts_with(kind)).unwrap_or_default();
            let numbers: Vec<_> = line.split_whitespace().skip(1).collect();
            let requests = numbers.first().and_then(|n| n.parse::<u32>().ok()).unwrap_or_default();
            assert!(requests >= 3 && numbers.get(1) == Some(&"0"), "{kind} fails:\n{said}");
        }
        assert!(said.contains("playback 100.00 %"), "{said}");
    }

    /// Every sidecar says so, the network shows nothing that can be read, and who has no sidecar is not heard.
    async fn calls_are_mutual_tls(&self, (mut tcpdump, file): (Process, PathBuf)) {
        tcpdump.signal(nix::sys::signal::Signal::SIGTERM);
        tcpdump.ended(Duration::from_secs(30)).await;
        let seen = String::from_utf8_lossy(&std::fs::read(file).expect("what was seen")).into_owned();
        assert!(seen.len() > 20_000, "only {} bytes were seen", seen.len());
        for word in ["/segments/", "/rows", "/home", "\"user\""] {
            assert!(!seen.contains(word), "{word} is on the wire in plain text");
        }
        for account in ["web", "profiles", "catalog", "recommendations", "playback", "video", "analytics"] {
            let served: f64 = futures::future::join_all(
                self.running.iter().filter(|pod| pod.object["spec"]["serviceAccountName"] == account).map(
                    async |pod| {
                        let metrics = metrics(pod).await;
                        let inbound = |l: &&str| l.starts_with("weir_requests_total{direction=\"inbound\"");
                        let (mutual, plain): (Vec<_>, Vec<_>) =
                            metrics.lines().filter(inbound).partition(|l| l.contains("tls=\"mutual\""));
                        // Probes from the node alone.
                        assert!(plain.iter().all(|l| l.contains("route=\"probe\"")), "{plain:?}");
                        mutual.iter().filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
                    },
                ),
            )
            .await
            .iter()
            .sum();
            assert!(served > 0.0, "{account} was not called with mutual TLS");
        }
        let catalog = self.pod("catalog").pod.v4;
        let plain = client::get((catalog, 9080).into(), "catalog", "/rows").await;
        assert!(plain.is_err(), "{plain:?}");
    }

    /// A split by weights takes effect when it is told to have; changed, again.
    async fn routes(&mut self) {
        let cluster = &self.installed.cluster;
        let gateway = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/gateway.yaml");
        cluster.kubectl(&["apply", "-f", gateway.to_str().unwrap()]).await;
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await;
        cluster.apply(NEXT).await;
        self.run(&["catalog-next".to_owned()]).await;
        for (weight, likely) in [(10, 10..=80), (50, 150..=250)] {
            self.apply(&split(weight)).await;
            self.programmed("httproute/catalog", "/status/parents/0/conditions").await;
            let before = self.counted().await;
            assert_eq!(self.call(400, "catalog:9080/rows").await, BTreeMap::from([("200".to_owned(), 400)]));
            let after = self.counted().await;
            let [old, new] = [after[0] - before[0], after[1] - before[1]];
            assert!(old + new == 400 && likely.contains(&new), "{weight} % of 400: {old} and {new}");
        }
    }

    /// Calls that the viewers' sidecar has sent to the catalogue, and to its next version.
    async fn counted(&self) -> [u64; 2] {
        let metrics = metrics(self.pod("viewers")).await;
        ["catalog", "catalog-next"].map(|service| {
            let of = format!("destination=\"{service}.demo.svc.cluster.local:9080\"");
            let lines = metrics.lines().filter(|l| {
                l.starts_with("weir_requests_total{direction=\"outbound\"")
                    && l.contains(&of)
                    && l.contains("\"mutual\"")
            });
            lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
        })
    }

    /// Calls of the viewers' pod: how often each status came. They go to the service's address, and are captured.
    async fn call(&self, times: u32, what: &str) -> BTreeMap<String, u32> {
        let (service, path) = what.split_once('/').expect("a path");
        let (name, port) = service.split_once(':').expect("a port");
        let service = self.installed.cluster.get(&["-n", "demo", "service", name]).await;
        let address = service["spec"]["clusterIP"].as_str().expect("an address");
        let uri = format!("http://{address}:{port}/{path}?n=[1-{times}]");
        let arguments = ["--no-progress-meter", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}\\n", &uri];
        let (_, said) = self.pod("viewers").pod.run(&self.curl, &arguments).await;
        said.lines().fold(BTreeMap::new(), |mut all, status| {
            *all.entry(status.to_owned()).or_default() += 1;
            all
        })
    }

    async fn apply(&self, document: &str) {
        self.installed.cluster.apply(document).await;
    }

    async fn programmed(&self, document: &str, at: &str) {
        let begun = std::time::Instant::now();
        self.condition(document, at, "Programmed", "True").await;
        eprintln!("{document} holds after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(10), "{document} took {:?}", begun.elapsed());
    }

    async fn condition(&self, document: &str, at: &str, kind: &str, status: &str) -> Value {
        let what = format!("{document}: {kind}={status}");
        self.installed
            .until(&what, async || {
                let object = self.installed.cluster.get(&["-n", "demo", document]).await;
                let all = object.pointer(at)?.as_array()?;
                let new = all.iter().filter(|c| c["observedGeneration"] == object["metadata"]["generation"]);
                new.into_iter().find(|c| c["type"] == kind && c["status"] == status).cloned()
            })
            .await
    }

    /// Who may not call is told so at once; a fault is felt, and gone again.
    async fn policies(&self) {
        let cluster = &self.installed.cluster;
        let own = "/status/conditions";
        self.apply(DENIED).await;
        self.programmed("authorizationpolicy/no-viewers", own).await;
        assert_eq!(self.call(20, "playback:9080/manifest/t-1").await, BTreeMap::from([("403".to_owned(), 20)]));
        // Whom it does not name goes on.
        assert_eq!(self.call(20, "web:8080/play/t-1").await, BTreeMap::from([("200".to_owned(), 20)]));
        self.apply(FAULT).await;
        self.programmed("trafficpolicy/broken-catalog", own).await;
        assert_eq!(self.call(20, "catalog:9080/rows").await, BTreeMap::from([("418".to_owned(), 20)]));
        cluster.kubectl(&["-n", "demo", "delete", "tp/broken-catalog", "authorizationpolicy/no-viewers"]).await;
        let well = BTreeMap::from([("200".to_owned(), 5)]);
        eventually("they are gone", 30, async || {
            let both = [self.call(5, "catalog:9080/rows").await, self.call(5, "playback:9080/manifest/t-1").await];
            both.iter().all(|one| *one == well).then_some(())
        })
        .await;
        self.the_demos_own().await;
    }

    /// How its services are called, and who may: all of it is taken, and then nobody else may, but the node's probes.
    async fn the_demos_own(&self) {
        let cluster = &self.installed.cluster;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo-services/mesh");
        for (file, kind) in [("policies.yaml", "trafficpolicies"), ("authorization.yaml", "authorizationpolicies")] {
            cluster.kubectl(&["apply", "-f", folder.join(file).to_str().unwrap()]).await;
            let all = cluster.get(&["-n", "demo", kind]).await;
            let all = all["items"].as_array().expect("a list");
            assert!(all.len() >= 8, "{} {kind}", all.len());
            for one in all {
                let name = one["metadata"]["name"].as_str().expect("a name");
                self.condition(&format!("{kind}/{name}"), "/status/conditions", "Programmed", "True").await;
            }
        }
        assert_eq!(self.call(20, "playback:9080/manifest/t-1").await, BTreeMap::from([("403".to_owned(), 20)]));
        assert_eq!(self.call(20, "web:8080/play/t-1").await, BTreeMap::from([("200".to_owned(), 20)]));
        for pod in &self.running {
            assert!(pod.is_ready().await, "{} is not ready any more", pod.object["metadata"]["name"]);
        }
        cluster.kubectl(&["-n", "demo", "delete", "authorizationpolicy", "catalog"]).await;
        let well = BTreeMap::from([("200".to_owned(), 20)]);
        let again = async || (self.call(20, "catalog:9080/rows").await == well).then_some(());
        eventually("the catalogue is open again", 30, again).await;
    }

    /// What cannot hold is refused where it is written, or, where nobody reads it then, says why in its status.
    async fn refusals(&self) {
        let cluster = &self.installed.cluster;
        let broken = split(50).replace("- backendRefs:", "- matches: [{path: {value: no}}]\n    backendRefs:");
        let why = cluster.try_apply(&broken).await.expect_err("it is taken");
        assert!(why.contains("spec.rules[0].matches[0].path.value"), "{why}");
        cluster.kubectl(&["delete", "validatingwebhookconfiguration", "weir-webhook"]).await;
        let taken = async || cluster.try_apply(&broken).await.ok();
        self.installed.until("nobody reads it", taken).await;
        let accepted = self.condition("httproute/catalog", "/status/parents/0/conditions", "Accepted", "False").await;
        assert_eq!(accepted["reason"], "Invalid", "{accepted}");
        assert!(
            accepted["message"].as_str().is_some_and(|m| m.contains("rules[0].matches[0].path.value")),
            "{accepted}"
        );
        // What held holds on.
        assert_eq!(self.call(20, "catalog:9080/rows").await, BTreeMap::from([("200".to_owned(), 20)]));
    }
}

/// A file of the manifests.
fn platform(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/kubernetes/demo").join(file)
}

async fn metrics(pod: &Running) -> String {
    client::text((pod.pod.v4, 15020).into(), "metrics", "/metrics").await
}
