//! A mesh of the tests: one control plane and its sidecars as processes, applications in the test.

use crate::{
    client::{self, get, send},
    eventually, free_port,
    process::{Process, binary},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A control plane, and a folder for everything.
pub struct Mesh {
    /// Where its REST API listens.
    pub api: SocketAddr,
    /// Where sidecars connect.
    pub xds: SocketAddr,
    /// Other replicas of it, where sidecars may connect too.
    pub others: Vec<SocketAddr>,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    /// Further arguments of it.
    pub extra: Vec<String>,
    /// Logs, state, keys; removed at the end.
    pub folder: tempfile::TempDir,
    /// Its process.
    pub control_plane: Option<Process>,
}

/// One sidecar.
pub struct Sidecar {
    /// The workload beside it.
    pub workload: String,
    /// Where applications send their calls.
    pub outbound: SocketAddr,
    /// Where other sidecars call.
    pub inbound: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
    /// `/readyz`.
    pub health: SocketAddr,
    /// Its admin pages.
    pub admin: SocketAddr,
    /// Its process.
    pub process: Option<Process>,
    account: String,
    extra: Vec<String>,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Mesh {
    /// Starts a control plane that knows these documents.
    pub async fn start(documents: &str) -> Self {
        Self::start_on(local(0).ip(), documents).await
    }

    /// The same, with the port for sidecars on another address of this machine.
    pub async fn start_on(address: IpAddr, documents: &str) -> Self {
        let mut mesh = Self::stopped(address);
        mesh.start_control_plane().await;
        mesh.apply(documents).await;
        mesh
    }

    /// Not started yet.
    pub fn stopped(address: IpAddr) -> Self {
        Self {
            api: local(free_port()),
            xds: SocketAddr::new(address, free_port()),
            others: Vec::new(),
            metrics: local(free_port()),
            extra: Vec::new(),
            folder: tempfile::tempdir().expect("a folder"),
            control_plane: None,
        }
    }

    /// Starts the control plane (again) on its ports and data.
    pub async fn start_control_plane(&mut self) {
        self.spawn_control_plane();
        let api = self.api;
        eventually("the control plane answers", 30, || async move {
            get(api, "localhost", "/api/v1/version").await.ok().filter(|a| a.status() == StatusCode::OK)
        })
        .await;
    }

    /// The same without waiting.
    pub fn spawn_control_plane(&mut self) {
        let mut command = Command::new(binary("weir-control-plane"));
        command
            .args(["--api", &self.api.to_string(), "--xds", &self.xds.to_string()])
            .args(["--metrics", &self.metrics.to_string()])
            .arg("--data")
            .arg(self.folder.path().join("data"))
            .args(&self.extra);
        let process = Process::start("control-plane", self.folder.path(), &mut command);
        self.control_plane = Some(process);
    }

    /// Its process.
    pub fn control_plane(&mut self) -> &mut Process {
        self.control_plane.as_mut().expect("a control plane")
    }

    /// Applies documents, which must be accepted.
    pub async fn apply(&self, documents: &str) -> Value {
        let answer = self.try_apply(documents).await.expect("the control plane");
        assert!(answer.status().is_success(), "{}", String::from_utf8_lossy(answer.body()));
        serde_json::from_slice(answer.body()).expect("JSON")
    }

    /// Applies documents.
    pub async fn try_apply(&self, documents: &str) -> Result<client::Answer, client::Failure> {
        send(self.api, body(Method::POST, "/api/v1/apply", "application/yaml", documents)).await
    }

    /// A page of the API.
    pub async fn page(&self, path: &str) -> Value {
        let answer = get(self.api, "localhost", path).await.expect("the control plane");
        assert_eq!(answer.status(), StatusCode::OK, "{path}: {}", String::from_utf8_lossy(answer.body()));
        serde_json::from_slice(answer.body()).expect("JSON")
    }

    /// A join token.
    pub async fn token(&self, account: &str) -> String {
        let asked = format!(r#"{{"namespace":"default","serviceAccount":"{account}","ttlSeconds":3600}}"#);
        let answer = send(self.api, body(Method::POST, "/api/v1/tokens", "application/json", asked)).await;
        let answer = answer.expect("the control plane");
        assert!(answer.status().is_success(), "{}", String::from_utf8_lossy(answer.body()));
        let answer: Value = serde_json::from_slice(answer.body()).expect("JSON");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// The mesh's roots, in a file.
    pub async fn roots(&self) -> PathBuf {
        let trust = self.page("/api/v1/trust").await;
        let path = self.folder.path().join("roots.pem");
        std::fs::write(&path, trust["roots"].as_str().expect("roots")).expect("a file");
        path
    }

    /// Starts the sidecar of a workload of namespace `default`, and waits until it is ready. `inbound` is the port that
    /// its Workload document says.
    pub async fn sidecar(&self, workload: &str, account: &str, inbound: u16) -> Sidecar {
        self.sidecar_with(workload, account, inbound, &[]).await
    }

    /// The same, with further arguments.
    pub async fn sidecar_with(&self, workload: &str, account: &str, inbound: u16, extra: &[&str]) -> Sidecar {
        let mut sidecar = self.sidecar_stopped(workload, account, inbound, extra);
        let token = self.token(account).await;
        sidecar.start(self, &token).await;
        sidecar
    }

    /// The same, not yet started.
    pub fn sidecar_stopped(&self, workload: &str, account: &str, inbound: u16, extra: &[&str]) -> Sidecar {
        Sidecar {
            workload: workload.into(),
            outbound: local(free_port()),
            inbound: local(inbound),
            metrics: local(free_port()),
            health: local(free_port()),
            admin: local(free_port()),
            process: None,
            account: account.into(),
            extra: extra.iter().map(|e| (*e).into()).collect(),
        }
    }
}

impl Sidecar {
    /// Starts it (again) on its ports and state, and waits until it is ready.
    pub async fn start(&mut self, mesh: &Mesh, token: &str) {
        self.spawn(mesh, token).await;
        self.ready().await;
    }

    /// Starts it without waiting.
    pub async fn spawn(&mut self, mesh: &Mesh, token: &str) {
        let mut command = self.command(mesh, mesh.xds, &self.state(mesh), token).await;
        self.process = Some(Process::start(&self.workload, mesh.folder.path(), &mut command));
    }

    /// Starts a new process that takes over from this one, and does not wait. Its log has another name.
    pub async fn successor(&self, mesh: &Mesh) -> Process {
        let token = mesh.token(&self.account).await;
        let command = self.command(mesh, mesh.xds, &self.state(mesh), &token).await;
        self.take_over(mesh, command)
    }

    /// The same, but it knows no control plane and nothing has been kept for it: it does not get ready, and gives up
    /// after `seconds`.
    pub async fn lost_successor(&self, mesh: &Mesh, seconds: u64) -> Process {
        let mut command = self.command(mesh, local(1), &mesh.folder.path().join("empty"), "").await;
        command.args(["--upgrade-ready-seconds", &seconds.to_string()]);
        self.take_over(mesh, command)
    }

    fn take_over(&self, mesh: &Mesh, mut command: Command) -> Process {
        command.arg("--upgrade-from").arg(self.state(mesh).join("upgrade.sock"));
        Process::start(&format!("{}-successor", self.workload), mesh.folder.path(), &mut command)
    }

    /// Has a new process take over, waits until it has, and gives the old one.
    pub async fn upgrade(&mut self, mesh: &Mesh) -> Process {
        let log = log_of(mesh.folder.path(), &format!("{}-successor", self.workload)).len();
        let mut new = self.successor(mesh).await;
        let limit = std::time::Instant::now() + Duration::from_secs(60);
        while !new.log()[log..].contains("this process has taken over") {
            assert!(new.is_running() && std::time::Instant::now() < limit, "it does not take over:\n{}", new.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.process.replace(new).expect("an old process")
    }

    /// Where it keeps what it needs for its next start.
    pub fn state(&self, mesh: &Mesh) -> PathBuf {
        mesh.folder.path().join(format!("state-{}", self.workload))
    }

    async fn command(&self, mesh: &Mesh, xds: SocketAddr, state: &Path, token: &str) -> Command {
        let roots = mesh.folder.path().join("roots.pem");
        let roots = if roots.exists() { roots } else { mesh.roots().await };
        let mut command = Command::new(binary("weir-proxy"));
        let replicas: Vec<String> = [xds].iter().chain(&mesh.others).map(ToString::to_string).collect();
        command
            .args(["--control-plane", &replicas.join(","), "--workload", &self.workload])
            .args(["--namespace", "default", "--service-account", &self.account])
            .args(["--outbound", &self.outbound.to_string(), "--inbound", &self.inbound.to_string()])
            .args(["--metrics", &self.metrics.to_string(), "--health", &self.health.to_string()])
            .args(["--admin", &self.admin.to_string(), "--access-log", "all"])
            .arg("--control-plane-roots")
            .arg(roots)
            .arg("--state-directory")
            .arg(state)
            .args(&self.extra)
            .env("WEIR_TOKEN", token);
        command
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) {
        let health = self.health;
        self.process().ready(health, Duration::from_secs(30)).await;
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a sidecar")
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        client::text(self.metrics, "metrics", "/metrics").await
    }
}

fn body(method: Method, path: &str, kind: &str, body: impl Into<String>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", kind)
        .body(Full::new(Bytes::from(body.into())))
        .expect("a request")
}

/// A Service with one port, over workloads with `app: <name>`.
pub fn service(name: &str, port: u16, protocol: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {name}}}\n  ports: [{{name: main, port: {port}, targetPort: main, appProtocol: {protocol}}}]\n"
    )
}

/// A Workload of `app`, whose application listens on `application` and its sidecar on `inbound`.
pub fn workload(name: &str, app: &str, application: u16, inbound: u16) -> String {
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nspec:\n  address: 127.0.0.1\n  serviceAccount: {app}\n  ports: [{{name: main, port: {application}}}]\n  sidecar: {{inboundPort: {inbound}}}\n"
    )
}

/// Where a process's leftovers are looked for.
pub fn log_of(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default()
}
