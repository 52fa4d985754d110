//! A Kubernetes cluster of the tests: etcd, kube-apiserver and kube-controller-manager as processes on free loopback ports,
//! with certificates of their own, RBAC, service-account tokens and admission webhooks. No node: who needs pods that run
//! brings a kubelet.
//!
//! `tests/setup` builds the programs (`tests/kubernetes/build`) and installs etcd.

mod certificates;
pub mod large;

use crate::{eventually, free_port, peers, process::Process};
use certificates::Certificates;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// The versions that are tested, newest first: one a line in `tests/kubernetes/versions`.
pub const VERSIONS: &str = include_str!("../../kubernetes/versions");
/// How long a cluster may take to be there. It takes less than ten seconds of a machine that does nothing else.
const START: u64 = 120;

/// A running cluster. All of it ends when this is dropped; after a panic its folder stays, and its path is printed.
pub struct Cluster {
    /// Where the API server listens.
    pub server: SocketAddr,
    /// For somebody who may do everything.
    pub kubeconfig: PathBuf,
    programs: PathBuf,
    certificates: Certificates,
    etcd: SocketAddr,
    api: Option<Process>,
    controllers: Option<Process>,
    store: Process,
    // Last: it is removed when all that writes into it has ended.
    folder: tempfile::TempDir,
}

/// The newest version that is tested.
pub fn newest() -> &'static str {
    VERSIONS.lines().next().unwrap_or_default()
}

/// The oldest version that is tested.
pub fn oldest() -> &'static str {
    VERSIONS.lines().last().unwrap_or_default()
}

impl Cluster {
    /// A cluster of the newest version. `None`, said loudly, where a program is missing; with `WEIR_NO_SKIP` set, a failure.
    pub async fn start() -> Option<Self> {
        Self::of_version(newest()).await
    }

    /// A cluster of a version.
    pub async fn of_version(version: &str) -> Option<Self> {
        let mut cluster = Self::without_controllers(version, &[]).await?;
        cluster.start_controllers();
        eventually("the cluster's controllers work", START, || async {
            let made = cluster.try_kubectl(&["get", "serviceaccount", "default", "-o", "name"]).await;
            made.ok().map(drop)
        })
        .await;
        Some(cluster)
    }

    /// A cluster in which nobody makes anything of what is written: pods have the service accounts and slices that the
    /// test writes. Its etcd waits for no disk.
    pub async fn quiet() -> Option<Self> {
        Self::without_controllers(newest(), &["--unsafe-no-fsync", "--quota-backend-bytes=8589934592"]).await
    }

    async fn without_controllers(version: &str, etcd_flags: &[&str]) -> Option<Self> {
        let programs = programs(version)?;
        let etcd_program = peers::find("etcd")?;
        let folder = tempfile::Builder::new().prefix("weir-cluster-").tempdir().expect("a folder");
        let certificates = Certificates::make(folder.path());
        let [server, etcd] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let store = start_etcd(&etcd_program, etcd, folder.path(), etcd_flags);
        let kubeconfig = certificates.kubeconfig(server, "admin", &["system:masters"]);
        let mut cluster =
            Self { server, kubeconfig, programs, certificates, etcd, api: None, controllers: None, store, folder };
        cluster.start_api().await;
        Some(cluster)
    }

    /// The folder of its logs, certificates and data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The PEM file of the authority that vouches for the API server.
    pub fn authority(&self) -> PathBuf {
        self.certificates.path("ca.crt")
    }

    /// The address of its etcd, for a client of etcd; without TLS, loopback only.
    pub fn etcd(&self) -> SocketAddr {
        self.etcd
    }

    /// Starts the API server (again) on its port, and waits until it is ready.
    pub async fn start_api(&mut self) {
        let mut command = Command::new(self.programs.join("kube-apiserver"));
        let file = |name: &str| self.certificates.path(name).display().to_string();
        command.args(
            [
                ("etcd-servers", format!("http://{}", self.etcd)),
                ("bind-address", self.server.ip().to_string()),
                ("secure-port", self.server.port().to_string()),
                ("external-hostname", "127.0.0.1".into()),
                // The `kubernetes` service gets no endpoint: a loopback address is not allowed there.
                ("endpoint-reconciler-type", "none".into()),
                ("tls-cert-file", file("server.crt")),
                ("tls-private-key-file", file("server.key")),
                ("client-ca-file", file("ca.crt")),
                ("authorization-mode", "Node,RBAC".into()),
                ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".into()),
                ("service-account-key-file", file("accounts.pub")),
                ("service-account-signing-key-file", file("accounts.key")),
                ("service-cluster-ip-range", "10.96.0.0/12".into()),
                ("allow-privileged", "true".into()),
                ("profiling", "false".into()),
                // A test that stops it waits for nobody.
                ("shutdown-delay-duration", "0s".into()),
            ]
            .map(|(flag, value)| format!("--{flag}={value}")),
        );
        self.api = Some(Process::start("kube-apiserver", self.folder.path(), &mut command));
        let limit = std::time::Instant::now() + Duration::from_secs(START);
        while tokio::net::TcpStream::connect(self.server).await.is_err()
            || self.try_kubectl(&["get", "--raw", "/readyz"]).await.is_err()
        {
            let api = self.api.as_mut().expect("just started");
            assert!(
                api.is_running() && self.store.is_running() && std::time::Instant::now() < limit,
                "kube-apiserver does not start:\n{}\n{}",
                tail(&api.log()),
                tail(&self.store.log())
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the API server at once, as a machine that is lost. Its data stays.
    pub fn kill_api(&mut self) {
        self.api = None;
    }

    /// The API server's process.
    pub fn api(&mut self) -> &mut Process {
        self.api.as_mut().expect("an API server")
    }

    /// The server's process does nothing until [`Cluster::resume_api`]: connections stay open, and nobody answers.
    pub fn pause_api(&mut self) {
        self.api().signal(Signal::SIGSTOP);
    }

    /// See [`Cluster::pause_api`].
    pub fn resume_api(&mut self) {
        self.api().signal(Signal::SIGCONT);
    }

    fn start_controllers(&mut self) {
        let kubeconfig =
            self.certificates.kubeconfig(self.server, "system:kube-controller-manager", &["system:masters"]);
        let mut command = Command::new(self.programs.join("kube-controller-manager"));
        let file = |name: &str| self.certificates.path(name).display().to_string();
        command.args(
            [
                ("kubeconfig", kubeconfig.display().to_string()),
                ("secure-port", "0".into()),
                ("leader-elect", "false".into()),
                ("service-account-private-key-file", file("accounts.key")),
                ("root-ca-file", file("ca.crt")),
                ("use-service-account-credentials", "true".into()),
                ("kube-api-qps", "1000".into()),
                ("kube-api-burst", "2000".into()),
                ("profiling", "false".into()),
            ]
            .map(|(flag, value)| format!("--{flag}={value}")),
        );
        self.controllers = Some(Process::start("kube-controller-manager", self.folder.path(), &mut command));
    }

    /// A kubeconfig for a user of these groups; what it may do, RBAC says.
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> PathBuf {
        self.certificates.kubeconfig(self.server, user, groups)
    }

    /// A kubeconfig for a service account, with a token of an hour.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.kubectl(&["-n", namespace, "create", "token", account]).await;
        self.certificates.kubeconfig_of_token(self.server, &format!("{namespace}-{account}"), token.trim())
    }

    /// `kubectl`, which may do everything. It is of the cluster's version.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.folder.path());
        command
    }

    /// What `kubectl` with these arguments prints; it must be content.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        match self.try_kubectl(arguments).await {
            Ok(said) => said,
            Err(said) => panic!("kubectl {}:\n{said}", arguments.join(" ")),
        }
    }

    /// What `kubectl` with these arguments prints, or what it complains of.
    ///
    /// # Errors
    /// What it said, where it was not content.
    pub async fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        run(command, None).await
    }

    /// A document as the API server has it.
    pub async fn get(&self, arguments: &[&str]) -> Value {
        let said = self.kubectl(&[&["get", "-o", "json"], arguments].concat()).await;
        serde_json::from_str(&said).expect("JSON")
    }

    /// Makes our kinds known, and as much of the Gateway API's as there is for tests.
    pub async fn install_kinds(&self) {
        let gateway = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/gateway.yaml");
        let ours = our_kinds();
        self.kubectl(&["create", "-f", &ours.display().to_string(), "-f", &gateway.display().to_string()]).await;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await;
    }

    /// Applies documents (YAML), which must be accepted.
    pub async fn apply(&self, documents: &str) -> String {
        match self.try_apply(documents).await {
            Ok(said) => said,
            Err(said) => panic!("{said}\n{documents}"),
        }
    }

    /// Creates documents (YAML), whose every field must be known.
    ///
    /// # Errors
    /// What was said against them.
    pub async fn try_create(&self, documents: &str) -> Result<String, String> {
        let mut command = self.kubectl_command();
        command.args(["create", "--validate=strict", "-f", "-"]);
        run(command, Some(documents.into())).await
    }

    /// Applies documents (YAML).
    ///
    /// # Errors
    /// What was said against them.
    pub async fn try_apply(&self, documents: &str) -> Result<String, String> {
        let mut command = self.kubectl_command();
        command.args(["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"]);
        run(command, Some(documents.into())).await
    }
}

/// The folder of our CustomResourceDefinitions.
pub fn our_kinds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/kubernetes/crds")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("the cluster's logs are in {}", self.folder.path().display());
        }
    }
}

/// The folder of a version's programs, as `tests/kubernetes/build` leaves them.
fn programs(version: &str) -> Option<PathBuf> {
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let folder = caches.join("weir/kubernetes").join(version);
    if ["kube-apiserver", "kube-controller-manager", "kubectl"].iter().all(|p| folder.join(p).exists()) {
        return Some(folder);
    }
    // The oldest version takes longer to build than a change should wait for: who wants it builds it.
    let must = std::env::var_os("WEIR_NO_SKIP").is_some() && version == newest();
    assert!(!must, "Kubernetes {version} is not built: run tests/setup");
    eprintln!("SKIPPED: Kubernetes {version} is not built; run tests/kubernetes/build {version} to have this tested");
    None
}

fn start_etcd(program: &Path, address: SocketAddr, folder: &Path, flags: &[&str]) -> Process {
    let client = format!("http://{address}");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let mut command = Command::new(program);
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--name", "one", "--initial-cluster", &format!("one={peer}")])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(flags);
    // Debian's package sets these for its service.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")) {
        command.env_remove(name);
    }
    Process::start("etcd", folder, &mut command)
}

/// Runs a program to its end, with a limit in time.
async fn run(command: Command, input: Option<String>) -> Result<String, String> {
    use tokio::io::AsyncWriteExt;
    let mut command = tokio::process::Command::from(command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(input.as_bytes()).await.map_err(|e| e.to_string())?;
    }
    let limit = Duration::from_secs(60);
    let output = tokio::time::timeout(limit, child.wait_with_output()).await.map_err(|e| e.to_string())?;
    let output = output.map_err(|e| e.to_string())?;
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("{out}{err}")) }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
