//! `weir up -f folder`: the mesh of a folder on this machine, until Ctrl-C.

use super::{
    Context,
    failure::Failure,
    input,
    output::{Format, Table},
    validate,
};
use crate::{
    app, ca,
    up::{self, Mesh, logs},
};
use clap::Args;
use serde::Serialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt as format,
    prelude::*,
};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// A folder of .yaml files, or a file. Can be given several times.
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Where the REST API answers; port 0 is any free one.
    #[arg(long, env = "WEIR_API", default_value = "127.0.0.1:15015", value_name = "ADDRESS")]
    api: SocketAddr,
    /// Where sidecars connect; a fixed one lets workloads on other machines join.
    #[arg(long, env = "WEIR_XDS", default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    xds: SocketAddr,
    /// Keep documents and keys here; unless told, they end with the mesh.
    #[arg(long, env = "WEIR_DATA", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// An issuing certificate (PEM) instead of an own one.
    #[arg(long, env = "WEIR_CA_CERT", requires = "ca_key", value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Its private key (PEM, PKCS#8).
    #[arg(long, env = "WEIR_CA_KEY", requires = "ca_cert", value_name = "FILE")]
    ca_key: Option<PathBuf>,
    /// The sidecar's program [weir-proxy beside this program].
    #[arg(long, env = "WEIR_PROXY_BIN", value_name = "FILE")]
    proxy_bin: Option<PathBuf>,
    /// Start the applications alone, as they would be without a mesh.
    #[arg(long)]
    no_sidecars: bool,
    /// Also write the lines of each child to a file in this folder.
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
    /// Do not print the lines of the children.
    #[arg(short, long)]
    quiet: bool,
    /// How long everything may take to become ready.
    #[arg(long, value_parser = crate::duration::parse, default_value = "60s", value_name = "TIME")]
    ready_timeout: Duration,
    /// How long a child may take to end.
    #[arg(long, value_parser = crate::duration::parse, default_value = "10s", value_name = "TIME")]
    grace: Duration,
}

#[derive(Serialize)]
struct Overview {
    api: SocketAddr,
    workloads: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    namespace: String,
    name: String,
    application: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar: Option<up::SidecarPorts>,
}

impl Up {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        log();
        let mut signals = Signals::new()?;
        let options = self.options(context.common.output != Format::Table)?;
        let running = tokio::select! {
            running = Mesh::start(options) => running?,
            () = signals.next() => return Err(Failure::failed("stopped before everything was ready", "")),
        };
        let overview =
            Overview { api: running.api_address(), workloads: running.workloads().iter().map(row).collect() };
        context.print(&overview, table)?;
        signals.next().await;
        eprintln!("stopping; once more to stop at once");
        tokio::select! {
            () = running.stop() => Ok(()),
            () = signals.next() => Err(Failure::failed("stopped at once", "")),
        }
    }

    fn options(&self, for_programs: bool) -> Result<up::Options, Failure> {
        let documents = validate::parse(&input::read(&self.file)?)?;
        let ca = match (&self.ca_cert, &self.ca_key) {
            (Some(certificate), Some(key)) => {
                ca::Source::Files { certificate: certificate.clone(), key: key.clone(), roots: None }
            }
            _ => ca::Source::Own,
        };
        let control_plane = app::Options {
            api: self.api,
            xds: self.xds,
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: self.data_dir.clone(),
            ca,
            ..app::Options::ephemeral()
        };
        Ok(up::Options {
            folder: folder(&self.file),
            control_plane,
            proxy_program: self.proxy_bin.clone(),
            sidecars: !self.no_sidecars,
            logs: logs::Options { quiet: self.quiet, folder: self.logs.clone(), to_stderr: for_programs },
            grace: self.grace,
            ready_timeout: self.ready_timeout,
            ..up::Options::new(documents)
        })
    }
}

/// Commands run where their documents are.
fn folder(named: &[PathBuf]) -> PathBuf {
    match named {
        [one] if one.is_dir() => one.clone(),
        [one] if one.is_file() => match one.parent() {
            Some(parent) if parent != Path::new("") => parent.into(),
            _ => ".".into(),
        },
        _ => ".".into(),
    }
}

fn row(placed: &up::Placed) -> Row {
    Row {
        namespace: placed.namespace.clone(),
        name: placed.workload.clone(),
        application: placed.application.first().copied(),
        sidecar: placed.sidecar,
    }
}

fn table(overview: &Overview) -> String {
    let mut table = Table::new(&["NAMESPACE", "WORKLOAD", "APPLICATION", "OUTBOUND", "INBOUND", "ADMIN", "METRICS"]);
    for row in &overview.workloads {
        let of = |pick: fn(&up::SidecarPorts) -> SocketAddr| row.sidecar.as_ref().map(|s| pick(s).to_string());
        table.row([
            row.namespace.clone(),
            row.name.clone(),
            row.application.map(|a| a.to_string()).unwrap_or_default(),
            of(|s| s.outbound).unwrap_or_default(),
            of(|s| s.inbound).unwrap_or_default(),
            of(|s| s.admin).unwrap_or_default(),
            of(|s| s.metrics).unwrap_or_default(),
        ]);
    }
    format!(
        "{table}\nThe mesh is up. REST API: http://{}  (weir status --address {})\nCtrl-C stops it.\n",
        overview.api, overview.api
    )
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::failed(format!("cannot listen for signals: {e}"), ""));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// The embedded control plane's own lines; only what needs attention, unless `WEIR_LOG` says otherwise.
fn log() {
    let asked = std::env::var("WEIR_LOG").ok().and_then(|directives| directives.parse().ok());
    let filter: Targets = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let _ = tracing_subscriber::registry().with(format::layer().with_writer(std::io::stderr)).with(filter).try_init();
}
