//! What a mesh says about all its sidecars.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// The settings; what is left out has the default that [`Settings::default`] shows. In a file: YAML with these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The containers' images.
    pub images: Images,
    /// `Always`, `IfNotPresent`, `Never`; empty: Kubernetes' default.
    pub image_pull_policy: String,
    /// The namespace of the control plane: its own pods get no sidecar.
    pub namespace: String,
    /// Where sidecars find it, `host:port`.
    pub control_plane: String,
    /// The name in its certificate, where it is not that host.
    pub control_plane_name: String,
    /// Under which name identities are vouched for.
    pub trust_domain: String,
    /// For whom service-account tokens are made: nobody else accepts them.
    pub token_audience: String,
    /// How long such a token is valid; Kubernetes takes 600 and more.
    pub token_seconds: u32,
    /// What a sidecar asks for and may use at most; empty: nothing is said. No limit of CPU: being throttled costs latency.
    pub cpu_request: String,
    /// See above.
    pub cpu_limit: String,
    /// See above.
    pub memory_request: String,
    /// See above.
    pub memory_limit: String,
    /// What sidecars log.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// Which requests they log.
    pub access_log: String,
    /// Whether pods are annotated for Prometheus (`prometheus.io/…`) where they are not already.
    pub prometheus: bool,
}

/// The containers' images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// The sidecar.
    pub proxy: String,
    /// What captures.
    pub init: String,
    /// The command line, for `weir await`.
    pub weir: String,
}

impl Default for Images {
    fn default() -> Self {
        let image = |name: &str| format!("{name}:{}", env!("CARGO_PKG_VERSION"));
        Self { proxy: image("weir-proxy"), init: image("weir-init"), weir: image("weir-control-plane") }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: Images::default(),
            image_pull_policy: String::new(),
            namespace: "weir-system".into(),
            control_plane: "weir-control-plane.weir-system.svc:15012".into(),
            control_plane_name: String::new(),
            trust_domain: "weir.local".into(),
            token_audience: "weir".into(),
            token_seconds: 3600,
            cpu_request: "10m".into(),
            cpu_limit: String::new(),
            memory_request: "24Mi".into(),
            memory_limit: "256Mi".into(),
            log: "info".into(),
            log_format: "json".into(),
            access_log: "off".into(),
            prometheus: true,
        }
    }
}

impl Settings {
    /// From a YAML file.
    ///
    /// # Errors
    /// Names the file, and what is wrong in it.
    pub fn load(path: &Path) -> Result<Self, String> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|e| named(&e))
    }
}
