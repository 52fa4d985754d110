//! Wires everything once, and takes it down again.
//!
//! ```text
//! control thread   identity renewal, ADS client, admin, metrics, readiness, drain
//! data threads     outbound and inbound connections: a runtime and a socket each (`data`)
//! ```
//! So a scrape, a new configuration or a new certificate takes no turn on a thread that serves requests.

mod control;

use crate::{
    admin::{Command, Logging, Readiness},
    data, drain,
    identity::Identity,
    listen::{self, Bound},
    options::{Options, OptionsError},
    state::{self, State},
    telemetry::{AccessLog, Metrics, metrics::DEFAULT_SERIES},
    tls,
    xds::Status,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicBool},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// How long a TLS handshake between sidecars may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long `weir-init` may hold the port for captured traffic.
const INIT_IS_BUSY: Duration = Duration::from_secs(5);

/// What the process really listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
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

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All work was finished.
    Drained,
    /// Some work was cut: it took too long, or we were told to end at once.
    Cut,
}

/// A sidecar that runs. Ends when told to, or when dropped.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    commands: mpsc::Sender<Command>,
    ended: watch::Receiver<Option<Ended>>,
    readiness: Arc<Readiness>,
    control: Option<JoinHandle<()>>,
}

/// Why a sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option.
    #[error("{0}")]
    Options(#[from] OptionsError),
    /// An address.
    #[error("cannot listen on {address} for {what}: {source}")]
    Bind {
        /// Which.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread or runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Starts a sidecar. It listens when this returns; it is ready when it has a certificate and a configuration.
///
/// # Errors
/// An option makes no sense, an address is taken, or the system gives no thread.
pub fn start(options: Options, logging: Logging) -> Result<Running, StartError> {
    let id = options.id()?;
    let metrics = Metrics::new(DEFAULT_SERIES);
    let log = AccessLog::to_stdout(options.access_log, metrics.access_log_dropped.clone());
    let identity = Identity::new();
    let status = Arc::new(Status::default());
    let (trigger, watch) = drain::channel();
    let readiness = Arc::new(Readiness {
        identity: identity.clone(),
        status: status.clone(),
        drain: trigger.signal(),
        captures: Arc::new(AtomicBool::new(options.capture.is_none())),
    });

    let sockets = Sockets::bind(&options)?;
    let addresses = sockets.addresses()?;
    let (state, wanted) = State::new(state::Parts {
        workers: options.workers,
        client: Arc::new(tls::Client::new(identity.contexts().clone(), HANDSHAKE)),
        metrics: metrics.clone(),
        workload: options.node.id().into(),
        born: Instant::now(),
    });
    let plane = data::Plane {
        state: state.clone(),
        server: tls::Server::new(identity.contexts().clone(), HANDSHAKE),
        metrics: metrics.clone(),
        log: log.clone(),
    };
    let data = data::start(plane, &options.limits, sockets.outbound, sockets.inbound, sockets.capture, watch)?;
    let (commands, received) = mpsc::channel(8);
    let (tell_end, ended) = watch::channel(None);
    let control = control::Control {
        id,
        options,
        logging,
        metrics,
        log,
        identity,
        status,
        readiness: readiness.clone(),
        state,
        wanted,
        pages: sockets.pages,
        commands: commands.clone(),
        received,
        trigger,
        data,
        tell_end,
    };
    let thread = thread::Builder::new().name("weir-control".into()).spawn(move || control.run())?;
    tracing::info!(
        outbound = %addresses.outbound, inbound = %addresses.inbound, admin = %addresses.admin,
        metrics = %addresses.metrics, health = %addresses.health, "listening"
    );
    Ok(Running { addresses, commands, ended, readiness, control: Some(thread) })
}

impl Running {
    /// What it really listens on, where port 0 was asked for.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What is missing until it is ready.
    pub fn missing(&self) -> Vec<&'static str> {
        self.readiness.missing()
    }

    /// For those who tell it to end.
    pub fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// Stops taking new work, and ends when what is under way is finished, or has taken too long.
    pub fn drain(&self) {
        let _ = self.commands.try_send(Command::Drain);
    }

    /// Ends at once.
    pub fn quit(&self) {
        let _ = self.commands.try_send(Command::Quit);
    }

    /// Returns when it has ended.
    pub async fn ended(&mut self) -> Ended {
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.unwrap_or(Ended::Cut),
            Err(_) => Ended::Cut,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.quit();
        if let Some(control) = self.control.take() {
            // It panicked, or it ended: either way it is over.
            let _ = control.join();
        }
    }
}

/// All that is listened on.
struct Sockets {
    outbound: Bound,
    inbound: Bound,
    capture: Option<data::Capture>,
    pages: control::Sockets,
}

impl Sockets {
    fn bind(options: &Options) -> Result<Self, StartError> {
        let listen = &options.listen;
        Ok(Self {
            outbound: shared("outbound", listen.outbound, options.workers)?,
            inbound: shared("inbound", listen.inbound, options.workers)?,
            capture: options.capture.map(|port| capture(port, options)).transpose()?,
            pages: control::Sockets {
                admin: bind("admin", listen.admin)?,
                metrics: bind("metrics", listen.metrics)?,
                health: bind("health", listen.health)?,
            },
        })
    }

    fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            outbound: self.outbound.address,
            inbound: self.inbound.address,
            admin: self.pages.admin.local_addr()?,
            metrics: self.pages.metrics.local_addr()?,
            health: self.pages.health.local_addr()?,
        })
    }
}

/// Sockets for captured traffic: the kernel turns connections to the loopback address of their family, and those from
/// outside to the address that they came for. Where there is no IPv6, there is none to be captured.
fn capture(port: u16, options: &Options) -> Result<data::Capture, StartError> {
    let here = |ip: IpAddr| SocketAddr::new(ip, port);
    let mut capture = data::Capture::default();
    capture.outbound.push(patiently(here(Ipv4Addr::LOCALHOST.into()), options.workers)?);
    let v6 = patiently(here(Ipv6Addr::LOCALHOST.into()), options.workers);
    let inbound = options.listen.inbound;
    match v6 {
        Ok(bound) => {
            capture.outbound.push(bound);
            if inbound.is_ipv4() {
                let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), inbound.port());
                let bound = listen::bind_v6(inbound.port(), options.workers);
                let bound = bound.map_err(|source| StartError::Bind { what: "inbound", address, source })?;
                capture.inbound.push(bound);
            }
        }
        Err(StartError::Bind { source, .. }) if source.kind() != io::ErrorKind::AddrInUse => {
            tracing::info!(error = %source, "there is no IPv6 here: none is captured");
        }
        Err(error) => return Err(error),
    }
    Ok(capture)
}

/// `weir-init` takes the port for a moment, to prove its rules.
fn patiently(address: SocketAddr, threads: usize) -> Result<Bound, StartError> {
    let limit = Instant::now() + INIT_IS_BUSY;
    loop {
        match shared("captured traffic", address, threads) {
            Err(StartError::Bind { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < limit =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Sockets that our threads share and no other process does: a second sidecar on the same port would otherwise take half
/// of the connections unseen.
fn shared(what: &'static str, address: SocketAddr, threads: usize) -> Result<Bound, StartError> {
    if address.port() != 0 {
        drop(bind(what, address)?);
    }
    listen::bind(address, threads).map_err(|source| StartError::Bind { what, address, source })
}

/// A socket that no other process shares.
fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| StartError::Bind { what, address, source })
}
