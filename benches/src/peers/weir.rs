//! Weir's pair: a real control plane and two real sidecars, as processes, one data thread each.

use super::{version, weir_documents};
use crate::contestant::{Contestant, Failure, Handshake, Kind, Target};
use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use weir_tests::{client::get, eventually, free_port, mesh::Mesh, process::Process};

/// Where its binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub(crate) proxy: PathBuf,
    pub(crate) control_plane: PathBuf,
    /// What the sidecars are started with, such as valgrind; usually nothing.
    pub(crate) wrapper: Vec<OsString>,
}

impl Binaries {
    /// Those that `WEIR_PROXY_BIN` and `WEIR_CONTROL_PLANE_BIN` name, else those beside this program; built when they
    /// are not there.
    pub fn find() -> Result<Self, Failure> {
        let this = std::env::current_exe()?;
        let beside = this.parent().ok_or("this program is in no folder")?;
        let choose = |variable, name| std::env::var_os(variable).map_or_else(|| beside.join(name), PathBuf::from);
        let found = Self {
            proxy: choose("WEIR_PROXY_BIN", "weir-proxy"),
            control_plane: choose("WEIR_CONTROL_PLANE_BIN", "weir-control-plane"),
            wrapper: Vec::new(),
        };
        if !found.proxy.exists() || !found.control_plane.exists() {
            build(beside)?;
        }
        for path in [&found.proxy, &found.control_plane] {
            if !path.exists() {
                return Err(format!("{} is not there", path.display()).into());
            }
        }
        Ok(found)
    }

    /// The sidecar's.
    pub fn proxy(&self) -> &Path {
        &self.proxy
    }
}

/// The sidecar last and by itself: built beside the control plane, it would carry what only that one's dependencies ask for.
fn build(beside: &Path) -> Result<(), Failure> {
    for package in ["weir-control-plane", "weir-proxy"] {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "-p", package, "--bins"]);
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        if beside.ends_with("release") {
            command.arg("--release");
        }
        if !command.status()?.success() {
            return Err("the sidecar and the control plane do not build".into());
        }
    }
    Ok(())
}

/// Starts control plane and sidecars, and waits until a request went through.
pub(crate) async fn start(binaries: &Binaries, application: SocketAddr, kind: Kind) -> Result<Contestant, Failure> {
    let mesh = control_plane(binaries).await?;
    let (caller, callee) = (free_port(), free_port());
    for part in weir_documents::of(kind, application.port(), (free_port(), caller), callee) {
        mesh.apply(&part).await;
    }
    mesh.roots().await;
    let threads = if kind == Kind::WeirTwo { 2 } else { 1 };
    let (server, _) = sidecar(binaries, &mesh, "bench-1", "bench", callee, threads).await?;
    let (client, outbound) = sidecar(binaries, &mesh, "client-1", "client", caller, threads).await?;
    eventually("a request goes through Weir's pair", 30, || async {
        get(outbound, "bench-http:8080", "/small").await.ok().filter(|a| a.status().is_success())
    })
    .await;
    let (http, grpc) = (Target::new(outbound, "bench-http:8080"), Target::new(outbound, "bench-grpc:8081"));
    let identity = mesh.folder.path().join("state-client-1/identity.pem");
    let handshake = Handshake {
        address: SocketAddr::from(([127, 0, 0, 1], callee)),
        name: "8080.bench-http.default.svc.cluster.local".into(),
        chain: identity.clone(),
        key: identity,
    };
    Ok(Contestant {
        version: version(&binaries.proxy),
        proxies: vec![("caller's", client), ("application's", server)],
        others: vec![Box::new(mesh)],
        ..Contestant::new(kind, http, grpc, Some(handshake))
    })
}

async fn control_plane(binaries: &Binaries) -> Result<Mesh, Failure> {
    let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let folder = tempfile::tempdir()?;
    let (api, xds, metrics) = (local(), local(), local());
    let mut command = Command::new(&binaries.control_plane);
    command
        .args(["--api", &api.to_string(), "--xds", &xds.to_string(), "--metrics", &metrics.to_string()])
        .arg("--data")
        .arg(folder.path().join("data"));
    let process = Process::start("control-plane", folder.path(), &mut command);
    let mesh = Mesh { api, xds, metrics, folder, others: vec![], extra: vec![], control_plane: Some(process) };
    eventually("the control plane answers", 30, || async {
        get(api, "localhost", "/api/v1/version").await.ok().filter(|a| a.status().is_success())
    })
    .await;
    Ok(mesh)
}

/// A sidecar as it runs by default, except that it has one data thread: its process, and where its application calls.
async fn sidecar(
    binaries: &Binaries,
    mesh: &Mesh,
    workload: &str,
    account: &str,
    inbound: u16,
    threads: usize,
) -> Result<(Process, SocketAddr), Failure> {
    let token = mesh.token(account).await;
    let (process, outbound, health) = spawn(binaries, mesh, workload, (account, &token), inbound, threads);
    eventually(&format!("the sidecar of {workload} is ready"), 120, || async {
        get(health, "health", "/readyz").await.ok().filter(|a| a.status().is_success())
    })
    .await;
    Ok((process, outbound))
}

/// How long so many sidecars took, one after the other, from the start of the process until they were ready, without a
/// certificate or configuration of an earlier life.
pub(crate) async fn starts(binaries: &Binaries, count: usize) -> Result<Vec<Duration>, Failure> {
    let mesh = control_plane(binaries).await?;
    let ports = (free_port(), free_port());
    for part in weir_documents::of(Kind::Weir, free_port(), ports, free_port()) {
        mesh.apply(&part).await;
    }
    mesh.roots().await;
    let mut took = Vec::new();
    for _ in 0..count {
        let token = mesh.token("client").await;
        let begun = Instant::now();
        let (_process, _, health) = spawn(binaries, &mesh, "client-1", ("client", &token), ports.1, 1);
        while !get(health, "health", "/readyz").await.is_ok_and(|a| a.status().is_success()) {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("a sidecar does not become ready".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(begun.elapsed());
        let _ = std::fs::remove_dir_all(mesh.folder.path().join("state-client-1"));
    }
    Ok(took)
}

/// Starts a sidecar: its process, where its application calls, and where it says whether it is ready.
fn spawn(
    binaries: &Binaries,
    mesh: &Mesh,
    workload: &str,
    (account, token): (&str, &str),
    inbound: u16,
    threads: usize,
) -> (Process, SocketAddr, SocketAddr) {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (outbound, health) = (local(free_port()), local(free_port()));
    let mut words = binaries.wrapper.iter().map(OsString::as_os_str).chain([binaries.proxy.as_os_str()]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
        .args(["--control-plane", &mesh.xds.to_string(), "--workload", workload])
        .args(["--namespace", "default", "--service-account", account, "--workers", &threads.to_string()])
        .args(["--outbound", &outbound.to_string(), "--inbound", &format!("0.0.0.0:{inbound}")])
        .args(["--metrics", &local(free_port()).to_string(), "--health", &health.to_string()])
        .args(["--admin", &local(free_port()).to_string()])
        .arg("--control-plane-roots")
        .arg(mesh.folder.path().join("roots.pem"))
        .arg("--state-directory")
        .arg(mesh.folder.path().join(format!("state-{workload}")))
        .env("WEIR_TOKEN", token);
    (Process::start(workload, mesh.folder.path(), &mut command), outbound, health)
}
