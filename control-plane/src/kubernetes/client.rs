//! The way to the API server: as a pod of the cluster, or by a kubeconfig.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{path::PathBuf, time::Duration};

/// How the API server is reached, and where in the cluster we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A kubeconfig; `None`: this process is a pod of the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// Our namespace, where Secrets and Leases are kept.
    pub namespace: String,
}

/// The namespace of a pod, as Kubernetes writes it into each container.
const OWN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace that is ours unless told otherwise: that of the pod that this process is in, if it is in one.
pub fn namespace() -> String {
    let own = std::fs::read_to_string(OWN).unwrap_or_default();
    if own.trim().is_empty() { "weir-system".into() } else { own.trim().into() }
}

/// A client; nobody is asked anything yet.
///
/// # Errors
/// In words: there is no kubeconfig, or we are in no pod.
pub async fn connect(options: &Options) -> Result<Client, String> {
    // Two of the crates here would each choose a provider of cryptography; that of the rest of Weir is taken.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = match &options.kubeconfig {
        Some(path) => {
            let named = |e: &dyn std::fmt::Display| format!("the kubeconfig {}: {e}", path.display());
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| named(&e))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|e| named(&e))?
        }
        None => Config::incluster()
            .map_err(|e| format!("this is no pod of a cluster ({e}); name a kubeconfig with --kubeconfig"))?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).map_err(|e| format!("the API server cannot be asked: {e}"))
}
