//! The control plane in a cluster, with real sidecars: pods are known by their tokens, what `kubectl` changes takes effect and
//! is told, and an API server that is away is no outage.

use serde_json::Value;
use std::{net::SocketAddr, path::Path, process::Command};
use weir_tests::{
    application::Application,
    client::{Answer, get},
    cluster::Cluster,
    eventually, free_port,
    mesh::{Mesh, Sidecar},
    process::{Process, binaries},
};

/// A cluster with a control plane, and two pods that are processes of this machine, each at a loopback address of its own.
pub struct House {
    pub cluster: Cluster,
    mesh: Mesh,
    server: Sidecar,
    pub client: Sidecar,
    _application: Application,
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: server, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: server}]
  rules:
    - filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: x-routed, value: yes-it-is}]}
      backendRefs: [{name: server, port: 8080}]
";

const FAULT: &str = "
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: fault, namespace: default}
spec:
  targetRefs: [{kind: HTTPRoute, name: server}]
  fault: {abort: {httpStatus: 418}}
";

const BEHIND: &str = "
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata:
  name: weir-replica-behind
  namespace: weir-system
  labels: {weir.dev/replica: 'true'}
  annotations: {weir.dev/settled: '1'}
";

fn pod(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: default}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}-1, namespace: default, labels: {{app: {name}}}}}\n\
         spec:\n  serviceAccountName: {name}\n  nodeName: here\n  containers:\n  \
         - {{name: app, image: 'app:1', ports: [{{name: main, containerPort: {port}}}]}}\n  \
         - {{name: weir-proxy, image: 'weir-proxy:0.1.0'}}\n"
    )
}

impl House {
    async fn new() -> Option<Self> {
        Self::with(&[]).await
    }

    /// The same, whose sidecars have further arguments.
    pub async fn with(extra: &[&str]) -> Option<Self> {
        let cluster = Cluster::start().await?;
        cluster.install_kinds().await;
        cluster.kubectl(&["create", "namespace", "weir-system"]).await;
        let application = Application::start("server-1").await;
        let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: server, namespace: default}\n\
                       spec: {selector: {app: server}, ports: [{name: http, port: 8080, targetPort: main}]}\n";
        cluster.apply(&[pod("server", application.address.port()), pod("client", 9), service.into()].concat()).await;
        // Addresses of this test alone: others run beside it.
        let at = |last: u8| SocketAddr::from(([127, 77, (free_port() % 250) as u8, last], 15_006));
        let (server_at, client_at) = (at(1), at(2));
        for (name, address) in [("server-1", server_at), ("client-1", client_at)] {
            let ip = address.ip();
            let status = format!(
                r#"{{"status":{{"phase":"Running","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
            );
            cluster.kubectl(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &status]).await;
        }
        let mut mesh = Mesh::stopped([127, 0, 0, 1].into());
        mesh.control_plane = Some(control_plane(&cluster, [mesh.api, mesh.xds, mesh.metrics], mesh.folder.path()));
        let api = mesh.api;
        eventually("the control plane answers", 60, || async move {
            get(api, "localhost", "/api/v1/version").await.ok().filter(|a| a.status() == 200)
        })
        .await;
        let mut sidecars = Vec::new();
        for (name, address) in [("server", server_at), ("client", client_at)] {
            let mut sidecar = mesh.sidecar_stopped(&format!("{name}-1"), name, 0, extra);
            sidecar.inbound = address;
            let token = token(&cluster, name, &["--audience", "weir"]).await;
            sidecar.start(&mesh, &token).await;
            sidecars.push(sidecar);
        }
        let (client, server) = (sidecars.pop()?, sidecars.pop()?);
        let house = Self { cluster, mesh, server, client, _application: application };
        house.answers(|a| a.status() == 200).await;
        Some(house)
    }

    async fn call(&self) -> Option<Answer> {
        get(self.client.outbound, "server:8080", "/x").await.ok()
    }

    /// Waits for an answer.
    async fn answers(&self, good: impl Fn(&Answer) -> bool) -> Answer {
        eventually("an answer", 30, || async { self.call().await.filter(|a| good(a)) }).await
    }

    /// Waits for a condition of a document, which is told of its newest generation.
    async fn condition(&self, document: &str, at: &str, kind: &str, status: &str) -> Value {
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let object = self.cluster.get(&[document]).await;
            let all = object.pointer(at).and_then(Value::as_array).into_iter().flatten();
            let found = all.filter(|c| c["observedGeneration"] == object["metadata"]["generation"]);
            if let Some(found) = found.into_iter().find(|c| c["type"] == kind && c["status"] == status) {
                return found.clone();
            }
            let late = std::time::Instant::now() > limit;
            assert!(!late, "{document} is not {kind}={status}: {object:#}\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Waits until the control plane has said this, after so much else.
    pub async fn says(&self, after: usize, what: &str) {
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(40);
        while !self.log()[after..].contains(what) {
            assert!(std::time::Instant::now() < limit, "it does not say `{what}`:\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// What the control plane said so far.
    pub fn log(&self) -> String {
        self.mesh.control_plane.as_ref().map(Process::log).unwrap_or_default()
    }
}

fn control_plane(cluster: &Cluster, [api, xds, metrics]: [SocketAddr; 3], folder: &Path) -> Process {
    let mut command = Command::new(binaries().join("weir-control-plane"));
    command.args(["--kubernetes", "--kubeconfig"]).arg(&cluster.kubeconfig).args([
        "--api",
        &api.to_string(),
        "--xds",
        &xds.to_string(),
        "--metrics",
        &metrics.to_string(),
    ]);
    Process::start("control-plane", folder, &mut command)
}

async fn token(cluster: &Cluster, account: &str, more: &[&str]) -> String {
    let pod = format!("{account}-1");
    let arguments = ["create", "token", account, "--bound-object-kind", "Pod", "--bound-object-name", &pod];
    cluster.kubectl(&[&arguments[..], more].concat()).await.trim().to_owned()
}

const PARENT: &str = "/status/parents/0/conditions";
const OWN: &str = "/status/conditions";

#[tokio::test]
async fn what_kubectl_changes_takes_effect_and_is_told() {
    let Some(mut house) = House::new().await else { return };
    house.cluster.apply(ROUTE).await;
    house.condition("httproute/server", PARENT, "Programmed", "True").await;
    // It is told only when it is so.
    let answer = house.call().await.expect("an answer");
    assert_eq!(answer.headers().get("x-routed").map(http::HeaderValue::as_bytes), Some(&b"yes-it-is"[..]));
    let route = house.cluster.get(&["httproute/server"]).await;
    assert_eq!(route["status"]["parents"][0]["controllerName"], "weir.dev/control-plane");
    house.cluster.apply(FAULT).await;
    house.condition("trafficpolicy/fault", OWN, "Programmed", "True").await;
    assert_eq!(house.call().await.expect("an answer").status(), 418);
    let table = house.cluster.kubectl(&["get", "tp"]).await;
    assert!(table.lines().any(|l| l.contains("fault") && l.matches("True").count() == 2), "{table}");

    // What is wrong is told where it was written, and what was good holds.
    house.cluster.apply(&FAULT.replace("HTTPRoute, name: server", "HTTPRoute, name: sever")).await;
    let refs = house.condition("trafficpolicy/fault", OWN, "ResolvedRefs", "False").await;
    assert_eq!(refs["reason"], "TargetNotFound", "{refs}");
    assert!(refs["message"].as_str().is_some_and(|m| m.contains("did you mean `server`?")), "{refs}");
    let broken =
        ROUTE.replace("  rules:\n    - filters:", "  rules:\n    - matches: [{path: {value: no}}]\n      filters:");
    house.cluster.apply(&broken).await;
    let accepted = house.condition("httproute/server", PARENT, "Accepted", "False").await;
    assert!(
        accepted["message"].as_str().is_some_and(|m| m.contains("spec.rules[0].matches[0].path.value")),
        "{accepted}"
    );
    let answer = house.answers(|a| a.status() == 200).await;
    assert!(answer.headers().contains_key("x-routed"), "the last good version holds");
    house.cluster.kubectl(&["delete", "tp/fault", "httproute/server"]).await;
    house.answers(|a| a.status() == 200 && !a.headers().contains_key("x-routed")).await;

    // Another replica, whose sidecars are behind, is waited for.
    house.cluster.apply(BEHIND).await;
    house.cluster.apply(ROUTE).await;
    let pending = house.condition("httproute/server", PARENT, "Programmed", "False").await;
    assert_eq!(pending["reason"], "Pending", "{pending}");
    house.answers(|a| a.headers().contains_key("x-routed")).await;
    house.condition("httproute/server", PARENT, "Programmed", "False").await;
    house.cluster.kubectl(&["delete", "lease", "weir-replica-behind", "-n", "weir-system"]).await;
    house.condition("httproute/server", PARENT, "Programmed", "True").await;

    // An instance that ends, or is not ready, gets no more requests.
    let not_ready = r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#;
    house.cluster.kubectl(&["patch", "pod", "server-1", "--subresource=status", "--type=merge", "-p", not_ready]).await;
    house.answers(|a| a.status() == 503).await;
    house.client.process.take();
    house.server.process.take();
}

#[tokio::test]
async fn a_pod_is_known_by_its_token_and_nothing_else() {
    let Some(house) = House::new().await else { return };
    let log = || house.log();
    // The very pod's token, and meant for the API server.
    let state = tempfile::tempdir().expect("a folder");
    let mut other =
        House::sidecar(&house.mesh, "other-audience", &token(&house.cluster, "server", &[]).await, state.path());
    house.says(0, "is invalid for the target audiences").await;
    other.kill();
    // Another pod's token: its identity is that pod's, and it may not act as this one.
    let stolen = token(&house.cluster, "client", &["--audience", "weir"]).await;
    let state = tempfile::tempdir().expect("a folder");
    let mut thief = House::sidecar(&house.mesh, "thief", &stolen, state.path());
    eventually("it gets that pod's certificate, whatever it claims", 30, || async {
        thief.log().contains("the certificate is for spiffe://weir.local/ns/default/sa/client").then_some(())
    })
    .await;
    let proxies = house.mesh.page("/api/v1/proxies").await;
    let servers = proxies.to_string().matches("\"node\":\"default/server-1\"").count();
    assert_eq!(servers, 1, "{proxies}");
    thief.kill();
    // A pod that is gone takes its token with it.
    let gone = token(&house.cluster, "client", &["--audience", "weir"]).await;
    house.cluster.kubectl(&["delete", "pod", "client-1", "--force", "--grace-period=0"]).await;
    let state = tempfile::tempdir().expect("a folder");
    let before = log().len();
    let mut late = House::sidecar(&house.mesh, "late", &gone, state.path());
    house.says(before, "the API server refuses the token").await;
    late.kill();
}

impl House {
    /// A sidecar that says that it is `server-1`.
    fn sidecar(mesh: &Mesh, name: &str, token: &str, state: &Path) -> Process {
        let any = || SocketAddr::from(([127, 0, 0, 1], free_port())).to_string();
        let mut command = Command::new(binaries().join("weir-proxy"));
        command
            .args(["--control-plane", &mesh.xds.to_string(), "--workload", "server-1", "--namespace", "default"])
            .args(["--service-account", "server", "--outbound", &any(), "--inbound", &any(), "--metrics", &any()])
            .args(["--health", &any(), "--admin", &any(), "--control-plane-roots"])
            .arg(mesh.folder.path().join("roots.pem"))
            .arg("--state-directory")
            .arg(state)
            .env("WEIR_TOKEN", token);
        Process::start(name, mesh.folder.path(), &mut command)
    }
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_outage() {
    let Some(mut house) = House::new().await else { return };
    house.cluster.apply(ROUTE).await;
    house.condition("httproute/server", PARENT, "Programmed", "True").await;
    house.cluster.kill_api();
    for _ in 0..50 {
        assert_eq!(house.call().await.map(|a| a.status().as_u16()), Some(200));
    }
    // A sidecar that restarts meanwhile has what it had, and its certificate.
    let mut client = house.client;
    client.process().kill();
    client.start(&house.mesh, "nobody-can-review-this").await;
    house.client = client;
    house.answers(|a| a.status() == 200).await;
    house.cluster.start_api().await;
    // Everything goes on, without a restart: changes arrive, and are told.
    house.cluster.apply(&ROUTE.replace("yes-it-is", "again")).await;
    house.condition("httproute/server", PARENT, "Programmed", "True").await;
    house.answers(|a| a.headers().get("x-routed").is_some_and(|v| v == "again")).await;
    assert!(house.mesh.control_plane().is_running());
    house.cluster.apply(FAULT).await;
    house.condition("trafficpolicy/fault", OWN, "Programmed", "True").await;
    house.answers(|a| a.status() == 418).await;
}
