//! A cluster with Weir in it: the manifests of `weir install`, and a control plane beside it with the rights that these give.

use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
};
use weir_tests::{
    client,
    cluster::Cluster,
    free_port,
    mesh::Mesh,
    process::{Process, binaries},
};

/// See the module.
pub(crate) struct Installed {
    pub(crate) cluster: Cluster,
    pub(crate) mesh: Mesh,
    /// Where the API server looks for the webhook.
    pub(crate) webhook: SocketAddr,
}

impl Installed {
    pub(crate) async fn start() -> Option<Self> {
        Self::start_on([127, 0, 0, 1].into()).await
    }

    /// Sidecars reach the control plane at this address.
    pub(crate) async fn start_on(address: IpAddr) -> Option<Self> {
        let mut installed = Self::stopped(address).await?;
        installed.start_control_plane().await;
        Some(installed)
    }

    /// The manifests alone, and nobody who answers.
    pub(crate) async fn stopped(address: IpAddr) -> Option<Self> {
        let cluster = Cluster::start().await?;
        let [api, webhook, metrics] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let folder = tempfile::tempdir().expect("a folder");
        let mesh = Mesh {
            api,
            xds: SocketAddr::new(address, free_port()),
            metrics,
            folder,
            control_plane: None,
            others: vec![],
            extra: vec![],
        };
        let installed = Self { cluster, mesh, webhook };
        let mut manifests = weir(&["install"]);
        // There is no pod network: the API server calls the webhook by its address.
        for at in ["/inject", "/validate"] {
            let before = manifests.len();
            let service =
                format!("{{service: {{name: weir-control-plane, namespace: weir-system, path: {at}, port: 443}}}}");
            manifests = manifests.replace(&service, &format!("{{url: 'https://{webhook}{at}'}}"));
            assert!(manifests.len() != before, "the manifests have another clientConfig than this test knows");
        }
        installed.cluster.apply(&manifests).await;
        Some(installed)
    }

    /// With the rights of its service account, outside the cluster.
    pub(crate) async fn start_control_plane(&mut self) {
        let Mesh { api, xds, metrics, .. } = self.mesh;
        let addresses = [("api", api), ("xds", xds), ("metrics", metrics), ("webhook", self.webhook)];
        self.mesh.control_plane = Some(self.replica("control-plane", &addresses).await);
        self.bundles_are_written().await;
    }

    /// A control plane that listens at these addresses.
    pub(crate) async fn replica(&self, name: &str, addresses: &[(&str, SocketAddr)]) -> Process {
        let kubeconfig = self.cluster.kubeconfig_of("weir-system", "weir-control-plane").await;
        let settings = self.mesh.folder.path().join("sidecars.yaml");
        std::fs::write(&settings, format!("controlPlane: '{}'\n", self.mesh.xds)).expect("a file");
        let mut command = Command::new(binaries().join("weir-control-plane"));
        command
            .args(addresses.iter().map(|(what, at)| format!("--{what}={at}")))
            .args(["--log", "info,weir_control_plane=debug", "--rotation-settle", "2s"])
            .arg("--sidecars")
            .arg(settings)
            .args(["--kubernetes", "true", "--kubernetes-namespace", "weir-system"])
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .env("KUBECONFIG", &kubeconfig);
        Process::start(name, self.mesh.folder.path(), &mut command)
    }

    /// Whoever does it.
    pub(crate) async fn bundles_are_written(&self) {
        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            self.until("caBundle is written", async || {
                let all = self.cluster.get(&[kind, "weir-webhook"]).await;
                let webhooks = all["webhooks"].as_array()?;
                webhooks.iter().all(|w| w["clientConfig"]["caBundle"].is_string()).then_some(())
            })
            .await;
        }
    }

    /// Waits, and shows the control plane's log where it is in vain.
    pub(crate) async fn until<T>(&self, what: &str, check: impl AsyncFn() -> Option<T>) -> T {
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            if let Some(value) = check().await {
                return value;
            }
            let log = || self.mesh.control_plane.as_ref().map(Process::log).unwrap_or_default();
            assert!(std::time::Instant::now() < limit, "in vain: {what}\n{}", log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn check(&self, arguments: &[&str]) -> (bool, String) {
        self.weir(&[&["check"], arguments].concat()).await
    }

    /// `weir` in this cluster: whether it is content, and what it says.
    pub(crate) async fn weir(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = tokio::process::Command::new(binaries().join("weir"));
        command.args(arguments).env("KUBECONFIG", &self.cluster.kubeconfig);
        let output = command.output().await.expect("weir runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A namespace, with the account that its pods run as.
    pub(crate) async fn namespace(&self, name: &str, labels: &str) {
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n");
        self.cluster.apply(&text).await;
        self.until("a default account", async || {
            self.cluster.try_kubectl(&["-n", name, "get", "serviceaccount", "default"]).await.ok()
        })
        .await;
    }

    pub(crate) async fn pods(&self, namespace: &str) -> Vec<Value> {
        let pods = self.cluster.get(&["pods", "-n", namespace]).await;
        pods["items"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) async fn metric(&self, name: &str) -> Option<String> {
        let text = client::text(self.mesh.metrics, "metrics", "/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '))?;
        Some(line[name.len() + 1..].to_owned())
    }
}

/// What `weir` prints; it must be content.
pub(crate) async fn command(arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(binaries().join("weir"));
    let output = command.args(arguments).output().await.expect("weir runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command of `weir` that asks no cluster prints.
pub(crate) fn weir(arguments: &[&str]) -> String {
    let output = Command::new(binaries().join("weir")).args(arguments).output().expect("weir runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
