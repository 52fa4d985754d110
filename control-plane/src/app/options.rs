//! How a control plane is started: for programs, and as flags, environment and file.

use super::stores::{self, Kind as StoreKind};
use crate::{
    ca::{ROOT_LIFE, Source},
    inject,
    kubernetes::client::{self, Options as KubernetesOptions},
    tls, webhook, xds,
};
use clap::Args;
use serde::Deserialize;
use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// All that can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// REST API.
    pub api: SocketAddr,
    /// xDS and certificates.
    pub xds: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
    /// Where everything is kept; `None`: nowhere, all ends with the process.
    pub data: Option<PathBuf>,
    /// A folder of YAML whose documents are taken over and followed.
    pub folder: Option<PathBuf>,
    /// Who has it may use the REST API; without, everybody on this machine may, and nobody else.
    pub admin_token: Option<String>,
    /// The issuing key.
    pub ca: Source,
    /// DNS names and addresses under which sidecars reach the xDS port; the first is told to them.
    pub names: Vec<String>,
    /// How long requests and streams under way may take at the end.
    pub drain: Duration,
    /// The cluster whose objects are the documents; `None`: they are kept elsewhere.
    pub kubernetes: Option<KubernetesOptions>,
    /// Kubernetes' admission webhook, where this runs in a cluster.
    pub webhook: Option<Webhook>,
    /// Where documents are kept; without `data`, an embedded store keeps nothing.
    pub store: StoreKind,
    /// The life of roots that are made.
    pub root_life: Duration,
    /// In a rotation of roots all proxies must allow the next phase for so long.
    pub rotation_settle: Duration,
}

/// The admission webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where it listens.
    pub address: SocketAddr,
    /// What the mesh says of sidecars.
    pub settings: inject::Settings,
    /// What both webhook configurations are called.
    pub configuration: String,
}

/// Certificates of more years cannot be written.
const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 3600);
/// [`Options::rotation_settle`], unless told otherwise: longer than a sidecar needs to move to another replica.
const SETTLE: Duration = Duration::from_secs(10);

impl Options {
    /// On free loopback ports, keeping nothing.
    pub fn ephemeral() -> Self {
        let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            api: here,
            xds: here,
            metrics: here,
            data: None,
            folder: None,
            admin_token: None,
            ca: Source::Own,
            names: Vec::new(),
            drain: Duration::from_secs(5),
            webhook: None,
            kubernetes: None,
            store: StoreKind::Embedded,
            root_life: ROOT_LIFE,
            rotation_settle: SETTLE,
        }
    }

    /// As arguments of the program `weir-control-plane`, with this data directory. The admin token is left to the
    /// environment, since arguments can be seen by everybody on a machine.
    pub fn arguments(&self, data: &Path) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |flag: &str, value: OsString| all.extend([flag.into(), value]);
        add("--api", self.api.to_string().into());
        add("--xds", self.xds.to_string().into());
        add("--metrics", self.metrics.to_string().into());
        add("--data", data.into());
        add("--drain", format!("{}ms", self.drain.as_millis()).into());
        if let Some(folder) = &self.folder {
            add("--folder", folder.into());
        }
        if let Source::Files { certificate, key, roots } = &self.ca {
            add("--ca-cert", certificate.into());
            add("--ca-key", key.into());
            if let Some(roots) = roots {
                add("--ca-roots", roots.into());
            }
        }
        for name in &self.names {
            add("--name", name.into());
        }
        if let Some(kubernetes) = &self.kubernetes {
            add("--kubernetes", "true".into());
            add("--kubernetes-namespace", kubernetes.namespace.clone().into());
            if let Some(path) = &kubernetes.kubeconfig {
                add("--kubeconfig", path.into());
            }
        }
        all
    }

    /// What sidecars are told to connect to, given what was bound.
    pub(super) fn advertised(&self, bound: SocketAddr) -> String {
        match self.names.first() {
            Some(name) if name.contains(':') => format!("[{name}]:{}", bound.port()),
            Some(name) => format!("{name}:{}", bound.port()),
            None if bound.ip().is_unspecified() => format!("127.0.0.1:{}", bound.port()),
            None => bound.to_string(),
        }
    }

    /// How the xDS port is served.
    pub(super) fn xds_options(&self) -> xds::server::Options {
        let mut names = self.names.clone();
        if !self.xds.ip().is_unspecified() {
            names.push(self.xds.ip().to_string());
        }
        xds::server::Options {
            tls: tls::Options { names, ..tls::Options::default() },
            ..xds::server::Options::default()
        }
    }

    /// What does not fit together, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.admin_token.as_ref().is_some_and(|t| t.len() < 16) {
            return Err("the admin token is shorter than 16 characters; make one with `openssl rand -hex 32`".into());
        }
        if self.admin_token.is_none() && !self.api.ip().is_loopback() {
            return Err(format!(
                "the REST API on {} could be used by everybody who reaches it; set --admin-token (WEIR_ADMIN_TOKEN), or use a loopback address",
                self.api
            ));
        }
        if self.kubernetes.is_some() && self.folder.is_some() {
            return Err(
                "--kubernetes takes documents from the cluster, and --folder from a folder; leave one out".into()
            );
        }
        if let Some(folder) = self.folder.as_ref().filter(|f| !f.is_dir()) {
            return Err(format!(
                "the folder {} is not there; make it, or name another with --folder",
                folder.display()
            ));
        }
        Ok(())
    }
}

/// [`Options`] as flags, environment (`WEIR_*`) and the keys of a YAML file. What is not said in one is looked for in the
/// next, in this order.
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    /// Address of the REST API [127.0.0.1:15015].
    #[arg(long, env = "WEIR_API", value_name = "ADDRESS")]
    pub api: Option<SocketAddr>,
    /// Address of xDS and certificates [0.0.0.0:15012].
    #[arg(long, env = "WEIR_XDS", value_name = "ADDRESS")]
    pub xds: Option<SocketAddr>,
    /// Address of /metrics and health [127.0.0.1:15014].
    #[arg(long, env = "WEIR_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Where documents, keys and tokens are kept [./weir-data].
    #[arg(long, env = "WEIR_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// A folder of YAML whose documents are taken over and followed.
    #[arg(long, env = "WEIR_FOLDER", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// A secret that the REST API asks for; needed when it is not on loopback.
    #[arg(long, env = "WEIR_ADMIN_TOKEN", hide_env_values = true, value_name = "SECRET")]
    pub admin_token: Option<String>,
    /// An issuing certificate (PEM, followed by those between it and the root) instead of an own one.
    #[arg(long, env = "WEIR_CA_CERT", value_name = "FILE", requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,
    /// The issuing certificate's private key (PEM, PKCS#8).
    #[arg(long, env = "WEIR_CA_KEY", value_name = "FILE", requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,
    /// All roots that vouch for identities (PEM) [the last certificate of --ca-cert].
    #[arg(long, env = "WEIR_CA_ROOTS", value_name = "FILE", requires = "ca_cert")]
    pub ca_roots: Option<PathBuf>,
    /// A DNS name or address under which sidecars reach the xDS port; the first is told to them.
    #[arg(long = "name", env = "WEIR_NAMES", value_delimiter = ',', value_name = "NAME")]
    pub names: Vec<String>,
    /// Address of the admission webhook, as 0.0.0.0:15017; needs a cluster (KUBECONFIG, or a service account) [none].
    #[arg(long, env = "WEIR_WEBHOOK", value_name = "ADDRESS")]
    pub webhook: Option<SocketAddr>,
    /// The name of both webhook configurations, whose caBundle is kept current [weir-webhook].
    #[arg(long, env = "WEIR_WEBHOOK_CONFIGURATION", value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// A YAML file with the settings of injected sidecars.
    #[arg(long, env = "WEIR_SIDECARS", value_name = "FILE")]
    pub sidecars: Option<PathBuf>,
    /// How long requests and streams under way may take at the end [10s].
    #[arg(long, env = "WEIR_DRAIN", value_name = "TIME")]
    pub drain: Option<String>,
    /// Take documents from Kubernetes, and keep keys there: the cluster that this is a pod of, or that of --kubeconfig.
    #[arg(long, env = "WEIR_KUBERNETES", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub kubernetes: Option<bool>,
    /// How the cluster is reached [as a pod of it].
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace with the control plane's Secrets and Leases [its pod's own, or weir-system].
    #[arg(long, env = "WEIR_KUBERNETES_NAMESPACE", value_name = "NAMESPACE")]
    pub kubernetes_namespace: Option<String>,
    /// Where documents are kept: `embedded`, a file in --data, or `etcd`, for several replicas [embedded].
    #[arg(long, env = "WEIR_STORE", value_name = "STORE")]
    pub store: Option<String>,
    /// The members of etcd: http://host:port or https://host:port.
    #[arg(long, env = "WEIR_ETCD_ENDPOINTS", value_delimiter = ',', value_name = "URL")]
    pub etcd_endpoints: Vec<String>,
    /// All keys in etcd begin with this [/weir].
    #[arg(long, env = "WEIR_ETCD_PREFIX", value_name = "PREFIX")]
    pub etcd_prefix: Option<String>,
    /// Roots that vouch for the members of etcd (PEM).
    #[arg(long, env = "WEIR_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,
    /// Our certificate towards etcd (PEM).
    #[arg(long, env = "WEIR_ETCD_CERT", value_name = "FILE", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,
    /// The key of --etcd-cert (PEM).
    #[arg(long, env = "WEIR_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// A user of etcd.
    #[arg(long, env = "WEIR_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,
    /// The password of --etcd-user; better in the environment, since arguments can be seen.
    #[arg(long, env = "WEIR_ETCD_PASSWORD", hide_env_values = true, value_name = "SECRET")]
    pub etcd_password: Option<String>,
    /// The life of roots that are made [3650d].
    #[arg(long, env = "WEIR_ROOT_LIFE", value_name = "TIME")]
    pub root_life: Option<String>,
    /// In a rotation of roots all proxies must allow the next phase for so long [10s].
    #[arg(long, env = "WEIR_ROTATION_SETTLE", value_name = "TIME")]
    pub rotation_settle: Option<String>,
}

impl Settings {
    /// From a YAML file.
    ///
    /// # Errors
    /// It cannot be read, or has a key that is not known.
    pub fn load(path: &Path) -> Result<Self, String> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
        serde_saphyr::from_str(&text).map_err(|e| named(&e))
    }

    /// What is not said here is taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            api: self.api.or(other.api),
            xds: self.xds.or(other.xds),
            metrics: self.metrics.or(other.metrics),
            data: self.data.or(other.data),
            folder: self.folder.or(other.folder),
            admin_token: self.admin_token.or(other.admin_token),
            ca_cert: self.ca_cert.or(other.ca_cert),
            ca_key: self.ca_key.or(other.ca_key),
            ca_roots: self.ca_roots.or(other.ca_roots),
            names: if self.names.is_empty() { other.names } else { self.names },
            webhook: self.webhook.or(other.webhook),
            webhook_configuration: self.webhook_configuration.or(other.webhook_configuration),
            sidecars: self.sidecars.or(other.sidecars),
            drain: self.drain.or(other.drain),
            kubernetes: self.kubernetes.or(other.kubernetes),
            kubeconfig: self.kubeconfig.or(other.kubeconfig),
            kubernetes_namespace: self.kubernetes_namespace.or(other.kubernetes_namespace),
            store: self.store.or(other.store),
            etcd_endpoints: if self.etcd_endpoints.is_empty() { other.etcd_endpoints } else { self.etcd_endpoints },
            etcd_prefix: self.etcd_prefix.or(other.etcd_prefix),
            etcd_ca: self.etcd_ca.or(other.etcd_ca),
            etcd_cert: self.etcd_cert.or(other.etcd_cert),
            etcd_key: self.etcd_key.or(other.etcd_key),
            etcd_user: self.etcd_user.or(other.etcd_user),
            etcd_password: self.etcd_password.or(other.etcd_password),
            root_life: self.root_life.or(other.root_life),
            rotation_settle: self.rotation_settle.or(other.rotation_settle),
        }
    }

    /// With what holds where nothing is said.
    ///
    /// # Errors
    /// A certificate without its key, or a duration that is none.
    pub fn options(self) -> Result<Options, String> {
        let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let ca = match (self.ca_cert, self.ca_key) {
            (Some(certificate), Some(key)) => Source::Files { certificate, key, roots: self.ca_roots },
            (None, None) => Source::Own,
            _ => {
                return Err(
                    "an issuing certificate needs its key, and a key its certificate: --ca-cert and --ca-key".into()
                );
            }
        };
        let settings = self.sidecars.as_deref().map(inject::Settings::load).transpose()?.unwrap_or_default();
        let configuration = self.webhook_configuration.unwrap_or_else(|| webhook::Names::default().configuration);
        let kubernetes = self.kubernetes.unwrap_or(false).then(|| KubernetesOptions {
            // An empty variable is one that is not there.
            kubeconfig: self.kubeconfig.filter(|path| !path.as_os_str().is_empty()),
            namespace: self.kubernetes_namespace.unwrap_or_else(client::namespace),
        });
        let etcd = stores::Said {
            endpoints: self.etcd_endpoints,
            prefix: self.etcd_prefix,
            ca: self.etcd_ca,
            certificate: self.etcd_cert,
            key: self.etcd_key,
            user: self.etcd_user.filter(|u| !u.is_empty()),
            password: self.etcd_password.filter(|p| !p.is_empty()),
        };
        let duration = |said: &Option<String>, usual: Duration| match said {
            Some(text) => crate::duration::parse(text).and_then(|d| match d <= LONGEST {
                true => Ok(d),
                false => Err(format!("`{text}` is longer than a hundred years")),
            }),
            None => Ok(usual),
        };
        Ok(Options {
            kubernetes,
            webhook: self.webhook.map(|address| Webhook { address, settings, configuration }),
            store: stores::chosen(self.store.as_deref(), etcd)?,
            root_life: duration(&self.root_life, ROOT_LIFE)?,
            rotation_settle: duration(&self.rotation_settle, SETTLE)?,
            api: self.api.unwrap_or(here(15_015)),
            xds: self.xds.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15_012)),
            metrics: self.metrics.unwrap_or(here(15_014)),
            data: Some(self.data.unwrap_or_else(|| "weir-data".into())),
            folder: self.folder,
            admin_token: self.admin_token.filter(|t| !t.is_empty()),
            ca,
            names: self.names,
            drain: crate::duration::parse(self.drain.as_deref().unwrap_or("10s"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_api_needs_a_token() {
        let mut options =
            Settings { api: Some("0.0.0.0:0".parse().unwrap()), ..Settings::default() }.options().unwrap();
        assert!(options.check().unwrap_err().contains("--admin-token"));
        options.admin_token = Some("short".into());
        assert!(options.check().is_err());
        options.admin_token = Some("0123456789abcdef".into());
        assert!(options.check().is_ok());
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, "api: 127.0.0.1:1\ndata: /d\nnames: [a]\n").unwrap();
        let flags = Settings { api: Some("127.0.0.1:2".parse().unwrap()), ..Settings::default() };
        let options = flags.or(Settings::load(&path).unwrap()).options().unwrap();
        assert_eq!(options.api.port(), 2);
        assert_eq!(options.data, Some("/d".into()));
        assert_eq!(options.advertised("0.0.0.0:7".parse().unwrap()), "a:7");
        std::fs::write(&path, "apy: 127.0.0.1:1\n").unwrap();
        assert!(Settings::load(&path).unwrap_err().contains("apy"));
    }
}
