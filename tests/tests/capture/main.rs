//! Transparent capture from outside: unmodified programs in pods (network namespaces), a sidecar in each, and what is seen
//! on the wire between them. Needs root; says loudly where it cannot run.

mod beside;
mod declared;
mod external;
mod files;
mod names;
mod probes;
mod programs;
mod rules;
mod upgrade;
mod wire;
mod world;

use std::{net::IpAddr, path::PathBuf, process::Command};
use weir_tests::{
    client, eventually,
    mesh::Mesh,
    peers,
    pods::{MIDDLE, Network, Pod, SIDECAR},
    process::{Process, binaries},
};

/// A mesh in pods: `client` and `server`, each with a sidecar.
struct Pods {
    network: Network,
    mesh: Mesh,
    client: Pod,
    server: Pod,
    sidecars: Vec<Process>,
    applications: Vec<Process>,
    python: PathBuf,
}

/// Where the applications of the server pod listen, on loopback, and the service port of each.
const HTTP: u16 = 8080;
const SMTP: u16 = 2525;
const ECHO: u16 = 7000;
const GRPC: u16 = 9000;
const WEBSOCKET: u16 = 8081;
const TLS: u16 = 8443;
const POSTGRES: u16 = 5432;
const MARIADB: u16 = 3306;
const REDIS: u16 = 6379;
const SSH: u16 = 2222;
const MQTT: u16 = 1883;

/// The service's addresses.
const V4: &str = "10.96.0.7";
const V6: &str = "fd96::7";

/// Where sidecars look for a resolver: the third pod of a test, if it has one.
const RESOLVER: &str = "10.9.0.4";

/// One service with all ports, of which nobody says what they speak.
fn documents(server: IpAddr) -> String {
    let ports: Vec<_> = [HTTP, SMTP, ECHO, GRPC, WEBSOCKET, TLS, POSTGRES, MARIADB, REDIS, SSH, MQTT]
        .iter()
        .map(|port| format!("{{name: p{port}, port: {port}}}"))
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: server}}\nspec:\n  clusterIPs: [{V4}, '{V6}']\n  \
         selector: {{app: server}}\n  ports: [{}]\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: server-1, labels: {{app: server}}}}\n\
         spec: {{address: '{server}', serviceAccount: server}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: client-1, labels: {{app: client}}}}\n\
         spec: {{address: 10.9.0.2, serviceAccount: client}}\n",
        ports.join(", ")
    )
}

impl Pods {
    /// Everything up to captured and ready. `v6`: sidecars reach each other over IPv6. `more`: further documents.
    async fn start(v6: bool, more: &str) -> Option<Self> {
        Self::start_asked(v6, more, "").await
    }

    /// The same; `probes`: what a kubelet asks the server.
    async fn start_asked(v6: bool, more: &str, probes: &str) -> Option<Self> {
        let python = peers::python()?;
        let mut network = Network::new()?;
        let folder = tempfile::tempdir().expect("a folder");
        let (client, server) = (network.pod("client", folder.path()), network.pod("server", folder.path()));
        let address = if v6 { server.v6 } else { server.v4 };
        let mesh = Mesh::start_on(MIDDLE.into(), &(documents(address) + more)).await;
        open_to_all(mesh.folder.path());
        let (http, smtp, echo) = (HTTP.to_string(), SMTP.to_string(), ECHO.to_string());
        let application = server.start(
            "plain",
            mesh.folder.path(),
            &python,
            &[&peer("captured_peer.py"), "serve", &http, &smtp, &echo],
        );
        let mut pods =
            Self { network, mesh, client, server, sidecars: vec![], applications: vec![application], python };
        for (pod, workload, account) in [(&pods.client, "client-1", "client"), (&pods.server, "server-1", "server")] {
            let mut command = sidecar(&pods.mesh, pod, workload, account).await;
            command.args(["--capture", "15001"]);
            if workload == "server-1" && !probes.is_empty() {
                command.env("WEIR_PROBES", probes);
            }
            pods.sidecars.push(Process::start(workload, pods.mesh.folder.path(), &mut command));
            pod.capture(&[]).await;
        }
        for (pod, n) in [(&pods.client, 0), (&pods.server, 1)] {
            ready(pod, || pods.sidecars[n].log()).await;
        }
        Some(pods)
    }

    /// A program in the client's pod, which must be content.
    async fn call(&self, program: impl AsRef<std::path::Path>, arguments: &[&str]) -> String {
        let program = program.as_ref();
        let (content, text) = self.client.run(program, arguments).await;
        assert!(
            content,
            "{program:?} {arguments:?}:\n{text}\nclient's sidecar:\n{}\nserver's:\n{}",
            self.sidecars[0].log(),
            self.sidecars[1].log()
        );
        text
    }

    /// The plain client of `captured_peer.py`.
    async fn plain(&self, arguments: &[&str]) -> String {
        let script = peer("captured_peer.py");
        self.call(&self.python, &[&[script.as_str()], arguments].concat()).await
    }

    /// The same, and whether it was content.
    async fn try_plain(&self, arguments: &[&str]) -> (bool, String) {
        let script = peer("captured_peer.py");
        self.client.run(&self.python, &[&[script.as_str()], arguments].concat()).await
    }

    async fn metrics(&self, pod: &Pod) -> String {
        client::text((pod.v4, 15020).into(), "metrics", "/metrics").await
    }

    /// Waits until the applications listen in the server's pod.
    async fn listening(&self, ports: &[u16]) {
        for port in ports {
            let uid = SIDECAR.to_string();
            let port = port.to_string();
            eventually("an application listens", 30, || async {
                // As the sidecar, so that it is not captured.
                let mut command = tokio::process::Command::from(self.server.command("setpriv"));
                command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]).arg(&self.python);
                command.args([
                    "-c",
                    "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))",
                    &port,
                ]);
                command
                    .stderr(std::process::Stdio::null())
                    .status()
                    .await
                    .ok()
                    .filter(std::process::ExitStatus::success)
            })
            .await;
        }
    }
}

async fn start_sidecar(mesh: &Mesh, pod: &Pod, workload: &str, account: &str) -> Process {
    let mut command = sidecar(mesh, pod, workload, account).await;
    Process::start(workload, mesh.folder.path(), command.args(["--capture", "15001"]))
}

/// Where a successor may ask.
fn upgrade_socket(mesh: &Mesh, workload: &str) -> PathBuf {
    mesh.folder.path().join(format!("of-{workload}")).join("upgrade.sock")
}

/// A sidecar that does not capture yet.
async fn sidecar(mesh: &Mesh, pod: &Pod, workload: &str, account: &str) -> Command {
    let token = mesh.token(account).await;
    let roots = mesh.roots().await;
    let upgrade = upgrade_socket(mesh, workload);
    let own = upgrade.parent().expect("a folder");
    std::fs::create_dir_all(own).expect("a folder");
    std::os::unix::fs::chown(own, Some(SIDECAR), Some(SIDECAR)).expect("another owner");
    let mut command = pod.command_as(SIDECAR, binaries().join("weir-proxy"));
    command
        .args(["--control-plane", &mesh.xds.to_string(), "--workload", workload, "--service-account", account])
        .args(["--log", "info,weir_proxy=debug", "--drain-seconds", "1", "--workers", "2"])
        .arg("--control-plane-roots")
        .arg(roots)
        .arg("--upgrade-socket")
        .arg(upgrade)
        .env("WEIR_RESOLV_CONF", resolv_conf(mesh))
        .env("WEIR_TOKEN", token);
    command
}

fn resolv_conf(mesh: &Mesh) -> PathBuf {
    let file = mesh.folder.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {RESOLVER}\n")).expect("a file");
    file
}

/// Sidecars run as nobody in particular.
fn open_to_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}

async fn readiness(pod: &Pod) -> Option<String> {
    let answer = client::get((pod.v4, 15021).into(), "health", "/readyz").await.ok()?;
    Some(String::from_utf8_lossy(answer.body()).trim().to_owned())
}

async fn ready(pod: &Pod, log: impl Fn() -> String) {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let said = readiness(pod).await;
        if said.as_deref() == Some("ready") {
            return;
        }
        assert!(std::time::Instant::now() < limit, "not ready: {said:?}\n{}", log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn peer(script: &str) -> String {
    format!("{}/peers/{script}", env!("CARGO_MANIFEST_DIR"))
}
