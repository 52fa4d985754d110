//! Weir's pair: a real control plane and two real sidecars, as processes, one data thread each.

use super::version;
use crate::contestant::{Contestant, Failure, Handshake, Kind, Target};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use weir_tests::{
    client::get,
    eventually, free_port,
    mesh::{Mesh, workload},
    process::Process,
};

/// Where its binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub(crate) proxy: PathBuf,
    pub(crate) control_plane: PathBuf,
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
}

fn build(beside: &Path) -> Result<(), Failure> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "-p", "weir-proxy", "-p", "weir-control-plane", "--bins"]);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if beside.ends_with("release") {
        command.arg("--release");
    }
    if command.status()?.success() { Ok(()) } else { Err("the sidecar and the control plane do not build".into()) }
}

/// Starts control plane and sidecars, and waits until a request went through.
pub(crate) async fn start(binaries: &Binaries, application: SocketAddr, kind: Kind) -> Result<Contestant, Failure> {
    let mesh = control_plane(binaries).await?;
    let (caller, callee) = (free_port(), free_port());
    let documents = format!(
        "{}{}{}{}",
        service("bench-http", 8080, "http"),
        service("bench-grpc", 8081, "grpc"),
        workload("client-1", "client", free_port(), caller),
        workload("bench-1", "bench", application.port(), callee),
    ) + policies(kind);
    mesh.apply(&documents).await;
    mesh.roots().await;
    let (server, _) = sidecar(binaries, &mesh, "bench-1", "bench", callee).await?;
    let (client, outbound) = sidecar(binaries, &mesh, "client-1", "client", caller).await?;
    eventually("a request goes through Weir's pair", 30, || async {
        get(outbound, "bench-http:8080", "/small").await.ok().filter(|a| a.status().is_success())
    })
    .await;
    let (http, grpc) = (Target::new(outbound, "bench-http:8080"), Target::new(outbound, "bench-grpc:8081"));
    let identity = mesh.folder.path().join("state-client-1/identity.pem");
    let handshake = Handshake {
        address: SocketAddr::from(([127, 0, 0, 1], callee)),
        name: "8080.bench-http.default".into(),
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
    let mesh = Mesh { api, xds, metrics, folder, control_plane: Some(process) };
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
) -> Result<(Process, SocketAddr), Failure> {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (outbound, health) = (local(free_port()), local(free_port()));
    let token = mesh.token(account).await;
    let mut command = Command::new(&binaries.proxy);
    command
        .args(["--control-plane", &mesh.xds.to_string(), "--workload", workload])
        .args(["--namespace", "default", "--service-account", account, "--workers", "1"])
        .args(["--outbound", &outbound.to_string(), "--inbound", &local(inbound).to_string()])
        .args(["--metrics", &local(free_port()).to_string(), "--health", &health.to_string()])
        .args(["--admin", &local(free_port()).to_string()])
        .arg("--control-plane-roots")
        .arg(mesh.folder.path().join("roots.pem"))
        .arg("--state-directory")
        .arg(mesh.folder.path().join(format!("state-{workload}")))
        .env("WEIR_TOKEN", token);
    let process = Process::start(workload, mesh.folder.path(), &mut command);
    eventually(&format!("the sidecar of {workload} is ready"), 30, || async {
        get(health, "health", "/readyz").await.ok().filter(|a| a.status().is_success())
    })
    .await;
    Ok((process, outbound))
}

fn service(name: &str, port: u16, protocol: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: bench}}\n  ports: [{{name: main, port: {port}, targetPort: main, appProtocol: {protocol}}}]\n"
    )
}

/// What a contestant's mesh holds besides the services: nothing, everything, or as little as can be.
fn policies(kind: Kind) -> &'static str {
    match kind {
        Kind::WeirAll => ALL_POLICIES,
        Kind::WeirNone => NO_POLICIES,
        _ => "",
    }
}

/// Authorisation by two policies (one of them with a rule per path), retries, budget, timeouts, limits, outlier
/// detection and load balancing by latency on both services; metrics and tracing headers are always on.
const ALL_POLICIES: &str = r#"
---
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: bench}
spec:
  selector: {matchLabels: {app: bench}}
  action: Allow
  rules:
    - from: [{serviceAccounts: [somebody, client]}]
      to: [{methods: [GET, POST], paths: [/elsewhere, "/small*", "/grpc*", "/*"]}]
---
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-debug}
spec:
  selector: {matchLabels: {app: bench}}
  action: Deny
  rules:
    - to: [{paths: ["/debug*"]}]
---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: bench}
spec:
  targetRefs:
    - {group: "", kind: Service, name: bench-http}
    - {group: "", kind: Service, name: bench-grpc}
  loadBalancing: {algorithm: PeakEwma}
  retry:
    on: [connect-failure, refused-stream, reset, gateway-error, unavailable]
    attempts: 2
    perTryTimeout: 5s
    backoff: {base: 25ms, max: 250ms}
  retryBudget: {percent: 20, interval: 10s, minRetriesPerSecond: 3}
  timeouts: {request: 10s, idle: 1m, connect: 500ms}
  circuitBreaker:
    limits: {maxConnections: 10000, maxPendingRequests: 10000, maxRequests: 10000, maxRetries: 10}
    outlierDetection:
      consecutive5xx: 5
      consecutiveGatewayFailure: 3
      failurePercentage: {threshold: 50, minimumHosts: 2, requestVolume: 20}
"#;

/// Everything that can be switched off, off.
const NO_POLICIES: &str = r#"
---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: bench}
spec:
  targetRefs:
    - {group: "", kind: Service, name: bench-http}
    - {group: "", kind: Service, name: bench-grpc}
  loadBalancing: {algorithm: RoundRobin}
  retry: {attempts: 0}
  timeouts: {request: 0s, idle: 0s}
  circuitBreaker: {outlierDetection: {consecutive5xx: 0, consecutiveGatewayFailure: 0}}
"#;
