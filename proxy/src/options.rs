//! What this process was told: flags over environment over start-up file over defaults.

use crate::{
    data, dns,
    identity::{ControlPlane, Roots, Token},
    telemetry::Mode,
};
use clap::{Parser, ValueEnum};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use weir_config::{
    bootstrap::{self, LogFormat, Probe},
    model::{SpiffeId, TrustDomain},
};
use zeroize::Zeroizing;

/// The sidecar of the Weir service mesh: mutual TLS, balancing, retries, timeouts and circuit breaking beside a workload.
#[derive(Debug, Parser)]
#[command(name = "weir-proxy", version)]
pub struct Args {
    /// The start-up file (YAML); flags and environment win over it.
    #[arg(long, env = "WEIR_BOOTSTRAP", value_name = "FILE")]
    pub bootstrap: Option<PathBuf>,
    /// The control plane; several replicas of it with commas between.
    #[arg(long, env = "WEIR_CONTROL_PLANE", value_name = "HOST:PORT,…")]
    pub control_plane: Option<String>,
    /// The name in the control plane's certificate, if not the host of its address.
    #[arg(long, env = "WEIR_CONTROL_PLANE_NAME", value_name = "NAME")]
    pub control_plane_name: Option<String>,
    /// Certificates that vouch for the control plane (PEM).
    #[arg(long, env = "WEIR_CONTROL_PLANE_ROOTS", value_name = "FILE")]
    pub control_plane_roots: Option<PathBuf>,
    /// The namespace of the workload [default: default].
    #[arg(long, env = "WEIR_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// The name of the workload, unique in its namespace.
    #[arg(long, env = "WEIR_WORKLOAD", value_name = "NAME")]
    pub workload: Option<String>,
    /// The service account of the workload [default: default].
    #[arg(long, env = "WEIR_SERVICE_ACCOUNT", value_name = "NAME")]
    pub service_account: Option<String>,
    /// Where the workload runs.
    #[arg(long, env = "WEIR_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// Where in its region the workload runs.
    #[arg(long, env = "WEIR_ZONE", value_name = "NAME")]
    pub zone: Option<String>,
    /// The trust domain of the mesh [default: weir.local].
    #[arg(long, env = "WEIR_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// A join token.
    #[arg(long, env = "WEIR_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file with the join token; read again when it is needed again.
    #[arg(long, env = "WEIR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The life of a certificate to ask for [default: the control plane's choice].
    #[arg(long, env = "WEIR_CERTIFICATE_SECONDS", value_name = "SECONDS")]
    pub certificate_seconds: Option<u64>,
    /// Where the certificate and the last good configuration are kept.
    #[arg(long, env = "WEIR_STATE_DIRECTORY", value_name = "FOLDER")]
    pub state_directory: Option<PathBuf>,
    /// Where the application sends its calls; loopback only [default: 127.0.0.1:15080].
    #[arg(long, env = "WEIR_OUTBOUND", value_name = "ADDRESS")]
    pub outbound: Option<SocketAddr>,
    /// Where other sidecars call [default: 0.0.0.0:15006].
    #[arg(long, env = "WEIR_INBOUND", value_name = "ADDRESS")]
    pub inbound: Option<SocketAddr>,
    /// Take the connections that weir-init has turned to this port of loopback, and those it has turned to the inbound
    /// port; usually 15001 [default: nothing is captured].
    #[arg(long, env = "WEIR_CAPTURE", value_name = "PORT")]
    pub capture: Option<u16>,
    /// Answer the questions for names that weir-init has turned to this port of loopback [default: 15053 where connections
    /// are captured; 0: none are answered].
    #[arg(long, env = "WEIR_DNS", value_name = "PORT")]
    pub dns: Option<u16>,
    /// The file that names this machine's resolvers, read once, at the start [default: /etc/resolv.conf].
    #[arg(long, env = "WEIR_RESOLV_CONF", value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// Where people on this machine look in; loopback only [default: 127.0.0.1:15000].
    #[arg(long, env = "WEIR_ADMIN", value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Where Prometheus scrapes `/metrics` [default: 0.0.0.0:15020].
    #[arg(long, env = "WEIR_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Where `/readyz` and `/livez` are [default: 0.0.0.0:15021].
    #[arg(long, env = "WEIR_HEALTH", value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
    /// What a kubelet asks the application without an identity, separated by spaces: `http://:8080/healthz`, `grpc://:9090`,
    /// `tcp://:5432`. Exactly that is let through where traffic is captured.
    #[arg(long, env = "WEIR_PROBES", value_name = "PROBES", value_delimiter = ' ')]
    pub probes: Vec<Probe>,
    /// Data threads [default: the machine's processors, at most 2].
    #[arg(long, env = "WEIR_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// How long requests under way may take to finish after SIGTERM [default: 30].
    #[arg(long, env = "WEIR_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<u64>,
    /// How long connections are still accepted after SIGTERM, until every caller knows that this instance ends [default: 1].
    #[arg(long, env = "WEIR_DRAIN_DELAY_SECONDS", value_name = "SECONDS")]
    pub drain_delay_seconds: Option<u64>,
    /// Take `POST /quitquitquit` on the admin address: whoever runs on this machine may end this process then.
    #[arg(long, env = "WEIR_ALLOW_QUIT")]
    pub allow_quit: bool,
    /// Take the listening sockets over from the process that listens at this Unix socket; start as ever if none does.
    #[arg(long, env = "WEIR_UPGRADE_FROM", value_name = "SOCKET")]
    pub upgrade_from: Option<PathBuf>,
    /// Where a new process may take over from this one [default: upgrade.sock in the state directory, if there is one].
    #[arg(long, env = "WEIR_UPGRADE_SOCKET", value_name = "SOCKET")]
    pub upgrade_socket: Option<PathBuf>,
    /// How long a process that takes over may need to get ready; then the old one goes on [default: 60].
    #[arg(long, env = "WEIR_UPGRADE_READY_SECONDS", value_name = "SECONDS")]
    pub upgrade_ready_seconds: Option<u64>,
    /// How long connections may live on in a process that was taken over from [default: 86400].
    #[arg(long, env = "WEIR_UPGRADE_DRAIN_SECONDS", value_name = "SECONDS")]
    pub upgrade_drain_seconds: Option<u64>,
    /// A service that was not called for so long is forgotten [default: 600].
    #[arg(long, env = "WEIR_IDLE_SECONDS", value_name = "SECONDS")]
    pub idle_seconds: Option<u64>,
    /// What is logged: a level, or directives such as `info,weir_proxy::xds=debug` [default: info].
    #[arg(long, env = "WEIR_LOG", value_name = "DIRECTIVES")]
    pub log: Option<String>,
    /// How the log is written [default: text].
    #[arg(long, env = "WEIR_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<Format>,
    /// Which requests are logged: off, errors, all, or errors and a share of the others, such as 1% [default: off].
    #[arg(long, env = "WEIR_ACCESS_LOG", value_name = "WHICH")]
    pub access_log: Option<Mode>,
    /// Do not serve: wait for the sidecar that does, with the same options, to be ready, and end; with 1 if it is not in time.
    #[arg(long, value_name = "SECONDS")]
    pub await_ready: Option<u64>,
    /// End when standard input ends: whoever started this process is gone then.
    #[arg(long, env = "WEIR_EXIT_WITH_PARENT")]
    pub exit_with_parent: bool,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What this process does, with nothing left open.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who this sidecar stands beside.
    pub node: Node,
    /// Who configures it.
    pub control_plane: ControlPlane,
    /// Under which name identities are vouched for.
    pub trust_domain: TrustDomain,
    /// What proves who we are.
    pub token: Option<Token>,
    /// The life of a certificate to ask for.
    pub certificate_life: Option<Duration>,
    /// Where state is kept.
    pub state_directory: Option<PathBuf>,
    /// Where it listens.
    pub listen: Listen,
    /// The port of loopback where captured connections arrive, where traffic is captured.
    pub capture: Option<u16>,
    /// The port of loopback where questions for names arrive, where they are answered.
    pub dns: Option<u16>,
    /// Which file names the resolvers.
    pub resolv_conf: PathBuf,
    /// What a kubelet asks the application without an identity.
    pub probes: Vec<Probe>,
    /// Data threads.
    pub workers: usize,
    /// How long a drain may take.
    pub drain: Duration,
    /// How long connections are still accepted then.
    pub drain_delay: Duration,
    /// Whether `/quitquitquit` is answered.
    pub allow_quit: bool,
    /// How one process takes over from another.
    pub upgrade: Upgrade,
    /// After which a service is forgotten.
    pub idle: Duration,
    /// What is logged.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
    /// Which requests are.
    pub access_log: Mode,
    /// What the data threads may take up.
    pub limits: data::Limits,
    /// Whether to end when standard input ends.
    pub exit_with_parent: bool,
}

/// How one process takes over from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Where the process before listens.
    pub from: Option<PathBuf>,
    /// Where this one listens for the next.
    pub socket: Option<PathBuf>,
    /// How long a new process may need to get ready.
    pub ready: Duration,
    /// How long connections may live on in the old one.
    pub drain: Duration,
}

/// Who a sidecar stands beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub workload: String,
    /// Its service account.
    pub service_account: String,
    /// May be empty.
    pub region: String,
    /// May be empty.
    pub zone: String,
}

impl Node {
    /// `<namespace>/<workload>`
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.workload)
    }
}

/// Where a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// For the application.
    pub outbound: SocketAddr,
    /// For other sidecars.
    pub inbound: SocketAddr,
    /// For people.
    pub admin: SocketAddr,
    /// For Prometheus.
    pub metrics: SocketAddr,
    /// For readiness.
    pub health: SocketAddr,
}

/// What is missing or wrong, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl Args {
    /// Reads the start-up file, if one is named, and fills in what was left out.
    ///
    /// # Errors
    /// Says what is missing or wrong, and which flag puts it right.
    pub fn resolve(self) -> Result<Options, OptionsError> {
        let file = match &self.bootstrap {
            Some(path) => bootstrap::Proxy::load(path).map_err(|e| OptionsError(e.to_string()))?,
            None => bootstrap::Proxy::default(),
        };
        let folder = self.bootstrap.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        self.merge(file, folder.as_deref())
    }

    /// `folder`: what the file's relative paths are relative to.
    fn merge(self, file: bootstrap::Proxy, folder: Option<&Path>) -> Result<Options, OptionsError> {
        let beside = |path: Option<PathBuf>| path.map(|p| folder.map_or(p.clone(), |f| f.join(&p)));
        let node = Node {
            namespace: label("namespace", self.namespace.or(file.node.namespace).unwrap_or("default".into()))?,
            workload: label("workload", needed("workload", self.workload.or(file.node.workload))?)?,
            service_account: label(
                "service-account",
                self.service_account.or(file.node.service_account).unwrap_or("default".into()),
            )?,
            region: self.region.or(file.node.region).unwrap_or_default(),
            zone: self.zone.or(file.node.zone).unwrap_or_default(),
        };
        let roots_file = self.control_plane_roots.or(beside(file.control_plane.roots_file));
        let control_plane = ControlPlane {
            address: needed("control-plane", self.control_plane.or(file.control_plane.address))?,
            server_name: self.control_plane_name.or(file.control_plane.server_name),
            roots: roots_file.map(Roots::File).or(file.control_plane.roots.map(Roots::Pem)),
            // Sidecars that start together do not all go to the first replica.
            turn: Arc::new(AtomicUsize::new(rand::random_range(0..1024))),
        };
        let token = match (self.token, self.token_file) {
            (None, None) => file
                .identity
                .token
                .map(|t| Token::Text(Zeroizing::new(t)))
                .or(beside(file.identity.token_file).map(Token::File)),
            (Some(text), _) => Some(Token::Text(Zeroizing::new(text))),
            (None, Some(path)) => Some(Token::File(path)),
        };
        let capture = self.capture.or(file.listen.capture).filter(|port| *port != 0);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let state_directory = self.state_directory.or(beside(file.state_directory));
        let upgrade = Upgrade {
            from: self.upgrade_from,
            socket: self
                .upgrade_socket
                .or(beside(file.upgrade.socket))
                .or_else(|| state_directory.as_ref().map(|folder| folder.join("upgrade.sock"))),
            ready: Duration::from_secs(self.upgrade_ready_seconds.or(file.upgrade.ready_seconds).unwrap_or(60).max(1)),
            drain: Duration::from_secs(self.upgrade_drain_seconds.or(file.upgrade.drain_seconds).unwrap_or(86_400)),
        };
        Ok(Options {
            node,
            control_plane,
            trust_domain: match self.trust_domain.or(file.identity.trust_domain) {
                Some(domain) => domain,
                None => "weir.local".parse().map_err(|_| OptionsError("no trust domain".into()))?,
            },
            token,
            certificate_life: self.certificate_seconds.or(file.identity.certificate_seconds).map(Duration::from_secs),
            state_directory,
            listen: Listen {
                outbound: loopback("outbound", self.outbound.or(file.listen.outbound).unwrap_or(local(15080)))?,
                inbound: self.inbound.or(file.listen.inbound).unwrap_or(everywhere(15006)),
                admin: loopback("admin", self.admin.or(file.listen.admin).unwrap_or(local(15000)))?,
                metrics: self.metrics.or(file.listen.metrics).unwrap_or(everywhere(15020)),
                health: self.health.or(file.listen.health).unwrap_or(everywhere(15021)),
            },
            capture,
            dns: self.dns.or(file.listen.dns).or(capture.map(|_| dns::PORT)).filter(|port| *port != 0),
            resolv_conf: self.resolv_conf.or(beside(file.resolv_conf)).unwrap_or_else(|| "/etc/resolv.conf".into()),
            probes: if self.probes.is_empty() { file.probes } else { self.probes },
            workers: self.workers.or(file.workers).unwrap_or(processors.min(2)).clamp(1, 64),
            drain: Duration::from_secs(self.drain_seconds.or(file.drain_seconds).unwrap_or(30)),
            drain_delay: Duration::from_secs(self.drain_delay_seconds.or(file.drain_delay_seconds).unwrap_or(1)),
            allow_quit: self.allow_quit || file.allow_quit,
            upgrade,
            idle: Duration::from_secs(self.idle_seconds.or(file.idle_seconds).unwrap_or(600).max(1)),
            log: self.log.or(file.log).unwrap_or("info".into()),
            log_format: self.log_format.map(Into::into).or(file.log_format).unwrap_or_default(),
            access_log: mode(self.access_log, file.access_log)?,
            limits: limits(&file.limits),
            exit_with_parent: self.exit_with_parent,
        })
    }
}

impl Options {
    /// Who we are to be.
    ///
    /// # Errors
    /// If the names of namespace and service account cannot be part of an identity.
    pub fn id(&self) -> Result<SpiffeId, OptionsError> {
        SpiffeId::workload(&self.trust_domain, &self.node.namespace, &self.node.service_account)
            .map_err(|e| OptionsError(e.to_string()))
    }
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

fn limits(file: &bootstrap::Limits) -> data::Limits {
    let defaults = data::Limits::default();
    data::Limits {
        connections: file.connections.unwrap_or(defaults.connections).max(1),
        replay_in_all: file.replay_bytes.unwrap_or(defaults.replay_in_all),
        ..defaults
    }
}

fn mode(flag: Option<Mode>, file: Option<String>) -> Result<Mode, OptionsError> {
    match (flag, file) {
        (Some(mode), _) => Ok(mode),
        (None, Some(text)) => text.parse().map_err(|e| OptionsError(format!("accessLog: {e}"))),
        (None, None) => Ok(Mode::Off),
    }
}

fn needed(flag: &str, value: Option<String>) -> Result<String, OptionsError> {
    let variable = flag.to_uppercase().replace('-', "_");
    value.filter(|v| !v.is_empty()).ok_or_else(|| {
        OptionsError(format!("--{flag} is missing; give it, or set WEIR_{variable}, or write it in --bootstrap"))
    })
}

/// Namespaces and names become parts of resource names and identities.
fn label(flag: &str, value: String) -> Result<String, OptionsError> {
    let good = !value.is_empty()
        && value.len() <= 253
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    if good { Ok(value) } else { Err(OptionsError(format!("--{flag}: `{value}` is no name: letters, digits, `.-_`"))) }
}

/// What is served there is for this machine only: calls with our identity, and control of the process.
fn loopback(flag: &str, address: SocketAddr) -> Result<SocketAddr, OptionsError> {
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(OptionsError(format!(
            "--{flag}: {address} is not on the loopback interface; use 127.0.0.1:{}",
            address.port()
        )))
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

#[cfg(test)]
mod tests;
