//! Wires everything once, and takes it down again.
//!
//! ```text
//! control thread   identity renewal, ADS client, admin, metrics, readiness, drain
//! data threads     outbound and inbound connections: a runtime and a socket each (`data`)
//! ```
//! So a scrape, a new configuration or a new certificate takes no turn on a thread that serves requests.

mod captured;
mod control;
mod end;
mod heir;
mod questions;

use self::captured::{Captured, Proof};
use crate::{
    admin::{Command, Logging, Readiness},
    data, dns,
    drain::{self, Door},
    handover::{Named, TakeError, Taken},
    identity::Identity,
    listen::{self, Bound},
    options::{Options, OptionsError},
    resolve::{Conf, Resolver, Upstream},
    state::{self, State},
    telemetry::{AccessLog, Metrics, metrics::DEFAULT_SERIES},
    tls,
    xds::Status,
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// How long a TLS handshake between sidecars may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

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
    door: Arc<watch::Sender<Door>>,
    /// How long it may need to get ready where it takes over.
    patience: Duration,
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
    /// Another process keeps its sockets.
    #[error("cannot take over: {0}")]
    TakeOver(#[from] TakeError),
    /// It did not become what it was to replace.
    #[error("cannot take over: not ready within {after:?}: {missing}; the process before goes on")]
    NotReady {
        /// How long it was waited for.
        after: Duration,
        /// What is missing, in words.
        missing: String,
    },
    /// The machine's resolvers.
    #[error("cannot read {}: {source}; name the file with --resolv-conf", path.display())]
    Resolvers {
        /// Where they should stand.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread or runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Starts a sidecar. It listens when this returns; it is ready when it has a certificate and a configuration. One that
/// takes over (`before`) does not accept yet: see [`Running::take_over`].
///
/// # Errors
/// An option makes no sense, an address is taken, or the system gives no thread.
pub fn start(options: Options, logging: Logging, mut before: Option<&mut Taken>) -> Result<Running, StartError> {
    let id = options.id()?;
    let metrics = Metrics::new(DEFAULT_SERIES);
    let log = AccessLog::to_stdout(options.access_log, metrics.access_log_dropped.clone());
    let identity = Identity::new();
    let contexts = identity.contexts().clone();
    metrics.add_source(move |out| {
        let help = "Chains of certificates that are not verified again when their owner comes again: 1,024 at most.";
        out.family("weir_tls_chains_known", "gauge", help).sample([], contexts.known());
    });
    let status = Arc::new(Status::default());
    let taken = before.as_ref().map_or(0, |b| b.count());
    metrics.add_source(move |out| {
        let help = "Listening sockets that were taken over from the process before.";
        out.family("weir_upgrade_sockets", "gauge", help).sample([], taken);
    });
    let sockets = Sockets::bind(&options, &mut |name| before.as_mut().map(|b| b.take(name)).unwrap_or_default())?;
    let resolvers = Arc::new(Upstream::new(resolvers(&options)?));
    let (addresses, heritage) = (sockets.addresses()?, sockets.heritage()?);
    let (end_inbound, inbound_life) = drain::channel();
    let (end_outbound, outbound_life) = drain::channel();
    let door = Arc::new(watch::Sender::new(if before.is_some() { Door::Shut } else { Door::Open }));
    let proof = sockets.capture.as_ref().map(Proof::of);
    let readiness = Arc::new(Readiness {
        identity: identity.clone(),
        status: status.clone(),
        door: door.subscribe(),
        conditions: proof.iter().map(|proof| proof.condition(door.subscribe())).collect(),
        drain: end_inbound.signal(),
    });
    let (state, wanted) = State::new(state::Parts {
        workers: options.workers,
        client: Arc::new(tls::Client::new(identity.contexts().clone(), HANDSHAKE)),
        resolver: Arc::new(Resolver::new(resolvers.clone())),
        beside: Arc::default(),
        metrics: metrics.clone(),
        workload: options.node.id().into(),
        born: Instant::now(),
    });
    let probes = Arc::new(state.probes(&options.probes));
    let plane = data::Plane {
        probes,
        state: state.clone(),
        server: tls::Server::new(identity.contexts().clone(), HANDSHAKE),
        metrics: metrics.clone(),
        log: log.clone(),
    };
    let lives = data::Lives { outbound: outbound_life, inbound: inbound_life, door: door.subscribe() };
    let Sockets { outbound, inbound, capture, questions, pages } = sockets;
    let capture = capture.map(|capture| capture.sockets);
    let data = data::start(plane, &options.limits, options.workers, outbound, inbound, capture, lives)?;
    let end = end::End {
        inbound: end_inbound,
        outbound: end_outbound,
        delay: options.drain_delay,
        limit: options.drain,
        handed_over: options.upgrade.drain,
    };
    let patience = options.upgrade.ready;
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
        pages,
        questions,
        resolvers,
        commands: commands.clone(),
        received,
        end,
        door: door.clone(),
        heritage,
        proof,
        data,
        tell_end,
    };
    let thread = thread::Builder::new().name("weir-control".into()).spawn(move || control.run())?;
    tracing::info!(
        outbound = %addresses.outbound, inbound = %addresses.inbound, admin = %addresses.admin,
        metrics = %addresses.metrics, health = %addresses.health, "listening"
    );
    Ok(Running { addresses, commands, ended, readiness, door, patience, control: Some(thread) })
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

    /// Gets ready, and begins to accept when the process before has stopped to.
    ///
    /// # Errors
    /// It does not get ready in time, or the process before has broken off: then that one goes on, and this one is to end.
    pub async fn take_over(&self, before: Taken) -> Result<(), StartError> {
        let after = self.patience;
        let ready = self.readiness.prepared(after).await;
        ready.map_err(|missing| StartError::NotReady { after, missing: missing.join(", ") })?;
        let begin = || {
            self.door.send_replace(Door::Open);
        };
        before.finish(begin).await?;
        tracing::info!("this process has taken over");
        Ok(())
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

/// The resolvers that this machine has now: what is written there later may name this sidecar itself.
fn resolvers(options: &Options) -> Result<Conf, StartError> {
    let path = &options.resolv_conf;
    Conf::load(path).map_err(|source| StartError::Resolvers { path: path.clone(), source })
}

/// All that is listened on.
struct Sockets {
    outbound: Bound,
    inbound: Bound,
    capture: Option<Captured>,
    questions: Option<dns::Sockets>,
    pages: control::Sockets,
}

/// The sockets that a process before has for this name.
type Before<'a> = dyn FnMut(&str) -> Vec<OwnedFd> + 'a;

impl Sockets {
    /// Takes what is there already, and binds the rest.
    fn bind(options: &Options, before: &mut Before<'_>) -> Result<Self, StartError> {
        let listen = &options.listen;
        let inbound = shared("inbound", listen.inbound, options.workers, before)?;
        let capture =
            options.capture.map(|port| Captured::bind(port, &inbound, options.workers, before)).transpose()?;
        let v6 = capture.as_ref().is_some_and(Captured::has_v6);
        Ok(Self {
            outbound: shared("outbound", listen.outbound, options.workers, before)?,
            inbound,
            questions: options.dns.map(|port| questions::bind(port, v6, before)).transpose()?,
            capture,
            pages: control::Sockets {
                admin: single("admin", listen.admin, before)?,
                metrics: single("metrics", listen.metrics, before)?,
                health: single("health", listen.health, before)?,
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

    /// All of them again, by the names under which a successor asks: whatever listens must be here.
    fn heritage(&self) -> io::Result<Vec<Named>> {
        let copy = |socket: &TcpListener| Ok::<_, io::Error>(vec![socket.try_clone()?.into()]);
        let all = [
            ("outbound", self.outbound.copies()?),
            ("inbound", self.inbound.copies()?),
            ("admin", copy(&self.pages.admin)?),
            ("metrics", copy(&self.pages.metrics)?),
            ("health", copy(&self.pages.health)?),
        ];
        let captured = self.capture.as_ref().map(Captured::copies).transpose()?.unwrap_or_default();
        let questions = self.questions.as_ref().map(questions::copies).transpose()?.unwrap_or_default();
        let all = all.into_iter().chain(captured).chain(questions);
        Ok(all.map(|(name, sockets)| Named { name: name.into(), sockets }).collect())
    }
}

/// Sockets that our threads share and no other process does: a second sidecar on the same port would otherwise take half
/// of the connections unseen. Those of the process before, if it has any on this address.
fn shared(
    what: &'static str,
    address: SocketAddr,
    threads: usize,
    before: &mut Before<'_>,
) -> Result<Bound, StartError> {
    if let Some(bound) = Bound::taken(before(what), address) {
        return Ok(bound);
    }
    if address.port() != 0 {
        drop(bind(what, address)?);
    }
    listen::bind(address, threads).map_err(|source| StartError::Bind { what, address, source })
}

/// The socket of the process before, or a new one.
fn single(what: &'static str, address: SocketAddr, before: &mut Before<'_>) -> Result<TcpListener, StartError> {
    match Bound::taken(before(what), address).and_then(|bound| bound.sockets.into_iter().next()) {
        Some(socket) => Ok(socket),
        None => bind(what, address),
    }
}

/// A socket that no other process shares.
fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| StartError::Bind { what, address, source })
}
