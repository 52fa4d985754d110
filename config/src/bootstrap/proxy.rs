//! The sidecar's start-up file. Every field can also be a flag or an environment variable, which win over the file.
//!
//! ```yaml
//! node: {namespace: demo, workload: web-1, serviceAccount: web, zone: a}
//! controlPlane: {address: "127.0.0.1:15012", rootsFile: /run/weir/roots.pem}
//! identity: {tokenFile: /run/weir/token}
//! stateDirectory: /var/lib/weir/web-1
//! ```

use super::Probe;
use crate::model::TrustDomain;
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The longest file that is read.
const MAX_FILE: u64 = 1024 * 1024;

/// The start-up file. What is left out has the default that `weir-proxy --help` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Proxy {
    /// Which instance this sidecar stands beside.
    pub node: Node,
    /// Who configures it.
    pub control_plane: ControlPlane,
    /// How it proves who it is.
    pub identity: Identity,
    /// Where the last good configuration and the certificate are kept; none: nowhere, and a restart needs the control
    /// plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_directory: Option<PathBuf>,
    /// The file that names this machine's resolvers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<PathBuf>,
    /// Addresses. Port 0: any free one.
    pub listen: Listen,
    /// What a kubelet asks the application without an identity, where traffic is captured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// Data threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// How long requests under way may take to finish after SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u64>,
    /// How long connections are still accepted after SIGTERM, until every caller knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_delay_seconds: Option<u64>,
    /// Whether `POST /quitquitquit` on the admin address ends the process.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_quit: bool,
    /// How a new process takes over from this one.
    #[serde(skip_serializing_if = "Upgrade::is_default")]
    pub upgrade: Upgrade,
    /// A service that was not called for so long is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// What is logged: a level, or directives such as `info,weir_proxy::xds=debug`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// Which requests are logged: `off`, `errors`, `all`, or errors and a share of the others, such as `1%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<String>,
    /// What the process may take up.
    pub limits: Limits,
}

/// Which instance a sidecar stands beside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Node {
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name, unique in the namespace: the `Workload`'s, or the pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The service account it runs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where in the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Who configures a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControlPlane {
    /// `<host>:<port>`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The name in its certificate, if not the host of `address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Certificates that vouch for it, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<String>,
    /// The same in a file, which may be replaced while the sidecar runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots_file: Option<PathBuf>,
}

/// How a sidecar proves who it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Identity {
    /// Under which name identities are vouched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
    /// A join token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The same in a file, which may be replaced while the sidecar runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The life of a certificate to ask for; the control plane may shorten it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_seconds: Option<u64>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("trust_domain", &self.trust_domain)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_file", &self.token_file)
            .field("certificate_seconds", &self.certificate_seconds)
            .finish()
    }
}

/// Where a sidecar listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// For the application's calls; loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<SocketAddr>,
    /// For other sidecars' calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound: Option<SocketAddr>,
    /// The port of loopback to which `weir-init` turns the application's connections; none: nothing is captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<u16>,
    /// The port of loopback to which `weir-init` turns questions for names (DNS); 15053 where connections are captured, 0:
    /// none are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<u16>,
    /// For people on this machine; loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// For Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// For readiness and liveness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<SocketAddr>,
}

/// What the process may take up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Connections that are open at a time, per direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Memory for request bodies that may have to be sent again, all together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_bytes: Option<usize>,
}

/// How one process takes over from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Upgrade {
    /// The Unix socket; without: `upgrade.sock` in the state directory, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// How long a new process may need to get ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_seconds: Option<u64>,
    /// How long connections may live on in the old process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u64>,
}

impl Upgrade {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Why a start-up file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct BootstrapError {
    path: String,
    message: String,
}

impl Proxy {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the file, and the place in it.
    pub fn load(path: &Path) -> Result<Self, BootstrapError> {
        let failed = |message: String| BootstrapError { path: path.display().to_string(), message };
        let length = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
        if length > MAX_FILE {
            return Err(failed("larger than 1 MiB".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    /// Reads YAML (or JSON).
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|e| e.to_string())
    }

    /// As YAML, for whoever starts sidecars.
    ///
    /// # Errors
    /// None in practice: every value has a form in YAML.
    pub fn to_yaml(&self) -> Result<String, String> {
        // JSON is YAML; its writer quotes every text, so that no `no` becomes a boolean.
        serde_json::to_string_pretty(self).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_written() {
        let text = "node: {namespace: demo, workload: web-1, serviceAccount: web}\n\
                    controlPlane: {address: '127.0.0.1:15012', roots: |\n  x\n}\n";
        assert!(Proxy::parse(text).is_err(), "a block in a flow is no YAML");
        let text = "node:\n  workload: web-1\ncontrolPlane:\n  address: 127.0.0.1:15012\n  roots: |\n    -----BEGIN\n    x\n\
                    identity: {token: secret, certificateSeconds: 10}\nlisten: {outbound: '127.0.0.1:0'}\naccessLog: errors\n";
        let file = Proxy::parse(text).unwrap();
        assert_eq!(file.node.workload.as_deref(), Some("web-1"));
        assert_eq!(file.listen.outbound, Some("127.0.0.1:0".parse().unwrap()));
        assert_eq!(file.access_log, Some("errors".to_owned()));
        assert_eq!(Proxy::parse(&file.to_yaml().unwrap()).unwrap(), file);
        assert!(!format!("{file:?}").contains("secret"));
        assert_eq!(Proxy::parse("").unwrap(), Proxy::default());
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = Proxy::parse("node: {workloadName: x}").unwrap_err();
        assert!(error.contains("workloadName"), "{error}");
        assert!(Proxy::parse("listen: {admin: here}").is_err());
    }
}
