//! Several control planes on one store, etcd or a Kubernetes cluster: any of them may die, and so may the store; roots are
//! exchanged and sidecars go meanwhile; no request fails and no change is lost.

mod backing;
mod cluster;
mod deaths;
mod expired;
mod going;
mod roots;

use backing::Backing;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};
use weir_tests::{
    application::Application,
    client::text,
    eventually, free_port,
    mesh::{Mesh, Sidecar, service, workload},
    process::binaries,
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// `WEIR_LONG=1` takes the time that the promise is made for.
fn long() -> bool {
    std::env::var_os("WEIR_LONG").is_some_and(|v| v == "1")
}

/// Replicas of a control plane on one store, and two workloads with sidecars that know all of them.
struct World {
    backing: Backing,
    /// Each replica with a folder and ports of its own; the first one's are used for what all have in common.
    planes: Vec<Mesh>,
    client: Sidecar,
    servers: Vec<Sidecar>,
    _applications: Vec<Application>,
}

impl World {
    /// Three control planes on etcd. `extra`: further arguments of the sidecars.
    async fn start(extra: &[&str]) -> Option<Self> {
        Some(Self::start_on(Backing::etcd()?, extra).await)
    }

    /// The same in a cluster.
    async fn start_in_cluster(extra: &[&str]) -> Option<Self> {
        Some(Self::start_on(Backing::cluster().await?, extra).await)
    }

    async fn start_on(backing: Backing, extra: &[&str]) -> Self {
        let mut planes: Vec<Mesh> = (0..3).map(|_| Mesh::stopped(HERE)).collect();
        for plane in &mut planes {
            plane.extra = backing.arguments();
            plane.start_control_plane().await;
        }
        let (applications, client_port) =
            ([Application::start("one").await, Application::start("two").await], free_port());
        let ports = [free_port(), free_port()];
        let mut documents = service("server", 8080, "http") + &workload("client-1", "client", free_port(), client_port);
        for (n, port) in ports.iter().enumerate() {
            documents += &workload(&format!("server-{n}"), "server", applications[n].address.port(), *port);
        }
        backing.apply(&planes, &documents).await;
        backing.known(&planes, "/api/v1/workloads", 3).await;
        planes[0].others = planes[1..].iter().map(|p| p.xds).collect();
        let mut servers = Vec::new();
        for (n, port) in ports.iter().enumerate() {
            servers.push(planes[0].sidecar_with(&format!("server-{n}"), "server", *port, extra).await);
        }
        let client = planes[0].sidecar_with("client-1", "client", client_port, extra).await;
        let world = Self { backing, planes, client, servers, _applications: applications.into() };
        eventually("the first request is answered", 20, || async {
            let answer = weir_tests::client::get(world.client.outbound, "server:8080", "/").await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        world
    }

    /// Applies documents, at any replica that takes them or as `kubectl` does.
    async fn apply(&self, documents: &str) {
        self.backing.apply(&self.planes, documents).await;
    }

    /// All replicas have the same documents, and all sidecars have applied what their replica knows last.
    async fn converged(&self) {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let Err(why) = self.is_one().await else { return };
            assert!(Instant::now() < limit, "not one again within 60 s: {why}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether all is one now; if not, what is not.
    async fn is_one(&self) -> Result<(), String> {
        let (mut applied, mut seen, mut said) = (0, BTreeSet::new(), String::new());
        for (n, plane) in self.planes.iter().enumerate() {
            let silent = || format!("replica {n} does not answer");
            let about = page(plane.api, "/api/v1/version").await.ok_or_else(silent)?;
            let version = &about["resourceVersion"];
            let proxies = page(plane.api, "/api/v1/proxies").await.ok_or_else(silent)?;
            let here = proxies["items"].as_array().into_iter().flatten().filter(|p| p["connected"] == true);
            for proxy in here {
                applied += usize::from(proxy["appliedVersion"] == *version);
                said += &format!("{} has {} of {version} at {n}; ", proxy["node"], proxy["appliedVersion"]);
            }
            // In a cluster, each counts for itself what it has seen (a status that is written is a version to who starts
            // later); what the documents are is the same.
            let mut all = if self.backing.counts_alike() { version.to_string() } else { String::new() };
            for kind in ["services", "workloads", "trafficpolicies", "httproutes"] {
                let mut documents = page(plane.api, &format!("/api/v1/{kind}")).await.ok_or_else(silent)?;
                for document in documents["items"].as_array_mut().into_iter().flatten() {
                    if let Some(metadata) = document["metadata"].as_object_mut() {
                        metadata.retain(|field, _| field != "resourceVersion" || self.backing.counts_alike());
                    }
                    all += &document.to_string();
                }
            }
            seen.insert(all);
        }
        let one = seen.len() == 1 && applied == 1 + self.servers.len();
        one.then_some(()).ok_or_else(|| format!("{said}{}", differences(&seen)))
    }

    /// `weir <arguments>` at some replica.
    fn weir(&self, plane: usize, arguments: &[&str]) -> Result<String, String> {
        weir(self.planes[plane].api, arguments)
    }

    /// Which replica leads, by its own metrics.
    async fn leader(&self) -> Option<usize> {
        for (n, plane) in self.planes.iter().enumerate() {
            if plane.control_plane.is_some() && number(plane, "weir_cp_leader").await == Some(1.0) {
                return Some(n);
            }
        }
        None
    }
}

/// Where texts begin to differ.
fn differences(all: &BTreeSet<String>) -> String {
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return String::new() };
    let same = first.chars().zip(last.chars()).take_while(|(a, b)| a == b).count();
    let rest = |text: &String| text.chars().skip(same.saturating_sub(200)).take(800).collect::<String>();
    all.iter().map(|text| format!("\n… {}", rest(text))).collect()
}

/// `weir <arguments>`: what it prints, or how it fails.
fn weir(api: SocketAddr, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(binaries().join("weir"))
        .args(["--address", &api.to_string()])
        .args(arguments)
        .output()
        .expect("weir");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if done.status.success() { Ok(out.into_owned()) } else { Err(err.into_owned()) }
}

/// A page of the API; `None`: not now.
async fn page(api: SocketAddr, path: &str) -> Option<Value> {
    let answer = tokio::time::timeout(Duration::from_secs(5), weir_tests::client::get(api, "localhost", path)).await;
    serde_json::from_slice(answer.ok()?.ok()?.body()).ok()
}

/// The sum of a metric of a control plane.
async fn number(plane: &Mesh, name: &str) -> Option<f64> {
    let asked = tokio::time::timeout(Duration::from_secs(5), text(plane.metrics, "metrics", "/metrics")).await.ok()?;
    let lines = asked.lines().filter(|l| l.split(['{', ' ']).next() == Some(name));
    Some(lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
