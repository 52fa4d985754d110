//! Weir's pair: a real control plane and two real sidecars, as processes, one data thread each.

use crate::contestant::{Contestant, Failure, Target};
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
    proxy: PathBuf,
    control_plane: PathBuf,
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
pub async fn start(binaries: &Binaries, application: SocketAddr) -> Result<Contestant, Failure> {
    let mesh = control_plane(binaries).await?;
    let (caller, callee) = (free_port(), free_port());
    let documents = format!(
        "{}{}{}{}",
        service("bench-http", 8080, "http"),
        service("bench-grpc", 8081, "grpc"),
        workload("client-1", "client", free_port(), caller),
        workload("bench-1", "bench", application.port(), callee),
    );
    mesh.apply(&documents).await;
    mesh.roots().await;
    let (server, _) = sidecar(binaries, &mesh, "bench-1", "bench", callee).await?;
    let (client, outbound) = sidecar(binaries, &mesh, "client-1", "client", caller).await?;
    eventually("a request goes through Weir's pair", 30, || async {
        get(outbound, "bench-http:8080", "/small").await.ok().filter(|a| a.status().is_success())
    })
    .await;
    Ok(Contestant {
        name: "Weir",
        version: version(&binaries.proxy),
        http: Target { address: outbound, authority: "bench-http:8080".into() },
        grpc: Target { address: outbound, authority: "bench-grpc:8081".into() },
        proxies: vec![("caller's", client), ("application's", server)],
        others: vec![Box::new(mesh)],
    })
}

/// What a program says to `--version`, without the folder that it is in.
pub fn version(program: &Path) -> String {
    let said = Command::new(program).arg("--version").output();
    let said = said.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    said.replace(&format!("{} ", program.display()), "").trim().to_owned()
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
