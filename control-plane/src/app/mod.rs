//! Wires the control plane once: store, index, certificate authority, xDS, REST API, metrics, folder; gives back the
//! addresses that were really bound; ends in order.

mod adapters;
mod cluster;
mod health;
mod history;
mod leaving;
mod options;
mod rotation;
mod stores;

#[cfg(test)]
mod tests;

pub use options::{Options, Settings, Webhook};
pub use stores::Kind as StoreKind;

use crate::{
    api::{self, Api},
    ca::{self, Ca, token::Tokens},
    fleet::Fleet,
    folder::Folder,
    index,
    leader::{self, Standing},
    metrics::Metrics,
    serve,
    store::{self, Store},
    tls, webhook, xds,
};
use adapters::{FleetPort, IdentityPort, StoreVault};
use cluster::Cluster;
use health::Health;
use history::{History, Recorded};
use leaving::Leavings;
use prometheus::Registry;
use rotation::Rotations;
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why a control plane does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options do not fit together.
    #[error("{0}")]
    Options(String),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The certificate authority cannot be opened.
    #[error("the certificate authority cannot start: {0}")]
    Ca(#[from] ca::Error),
    /// A port cannot be bound.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The xDS port cannot be served.
    #[error(transparent)]
    Xds(#[from] xds::server::Error),
    /// There is no cluster that could call the webhook.
    #[error("the admission webhook (--webhook) needs a cluster: {0}; run it in one, or set KUBECONFIG")]
    Cluster(String),
    /// The webhook has no certificate.
    #[error("the admission webhook cannot start: {0}")]
    Webhook(#[from] tls::Error),
    /// A metric was registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Where a control plane really listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// REST API.
    pub api: SocketAddr,
    /// xDS and certificates.
    pub xds: SocketAddr,
    /// `/metrics`, `/healthz`, `/readyz`, `/livez`.
    pub metrics: SocketAddr,
    /// The admission webhook, where there is one.
    pub webhook: Option<SocketAddr>,
}

/// The control plane.
pub struct App;

impl App {
    /// Opens the store, binds every port, and serves.
    ///
    /// # Errors
    /// Says what is in the way, and what to do about it. Then nothing is left running.
    pub async fn start(options: Options) -> Result<Running, Error> {
        options.check().map_err(Error::Options)?;
        let registry = Registry::new();
        let metrics = Metrics::new(&registry)?;
        let fleet = Fleet::new(metrics.clone());
        let history = Arc::new(History::default());

        // An API server that is away is waited for: nobody shall connect to who does not answer yet.
        let cluster = Cluster::open(&options, &metrics).await?;
        let sockets = Sockets::bind(&options).await?;
        let addresses = sockets.addresses()?;
        let (kept, lease) = stores::open(&options, cluster.as_ref(), &metrics).await?;
        history.start(&kept.snapshot(), &fleet);
        let store: Arc<dyn Store> = Arc::new(Recorded::new(kept, history.clone(), fleet.clone()));
        let vault = StoreVault(store.clone());
        let ca = Ca::open_with(options.ca.clone(), options.root_life, &vault, SystemTime::now())?;
        let tokens = Arc::new(Tokens::open(&vault)?);

        let running = Running {
            addresses,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            drain: options.drain,
            store: store.clone(),
            ca: ca.clone(),
        };
        let who = format!("{:016x}", rand::random::<u64>());
        let (leader, strive) = leader::strive(lease, who.clone(), leader::LIFE, running.stop.clone());
        running.tasks.spawn(strive);
        running.tasks.spawn(tell(leader.clone(), ca.clone(), metrics.clone(), running.stop.clone()));
        if let Some(cluster) = &cluster {
            cluster.start(&fleet, leader.clone(), who.clone(), &running.tasks, &running.stop);
        }
        running.follow_leavings(&store, &fleet, &leader).await;
        let rotations = Rotations::new(
            store.clone(),
            ca.clone(),
            fleet.clone(),
            leader.clone(),
            who,
            options.rotation_settle,
            &registry,
        )?;
        running.tasks.spawn(rotations.clone().run(running.stop.clone()));
        let follower = options.folder.clone().map(|path| Folder::new(path, store.clone()));
        let report = follower.as_ref().map(Folder::report);
        if let Some(follower) = follower {
            running.follow_folder(follower).await;
        }
        let (world, follow) = index::follow(store.watch());
        running.tasks.spawn(follow);

        let identity =
            Arc::new(IdentityPort { tokens: tokens.clone(), ca: ca.clone(), world: world.clone(), rotations });
        let api = Api {
            store,
            fleet: Arc::new(FleetPort { fleet: fleet.clone(), history }),
            identity,
            world: world.clone(),
            xds_address: options.advertised(addresses.xds).into(),
            admin_token: options.admin_token.as_deref().map(Into::into),
        };
        if let (Some(webhook), Some(listener)) = (options.webhook.clone(), sockets.webhook) {
            running.webhook(webhook, listener, &options.names, &leader, &registry).await?;
        }
        let health = Health::new(&registry, world.clone(), report, running.stop.clone())?;
        running.serve(sockets.metrics, health.router(registry));
        running.serve(sockets.api, api::router(api));
        let reviews = cluster.as_ref().and_then(Cluster::reviews);
        let parts = xds::server::Parts { worlds: world, ca, tokens, reviews, fleet, metrics };
        xds::server::start(sockets.xds, parts, &options.xds_options(), &running.tasks, &running.stop)?;
        tracing::info!(api = %addresses.api, xds = %addresses.xds, metrics = %addresses.metrics, "the control plane is up");
        Ok(running)
    }
}

/// A control plane that runs. Dropping it stops it at once.
pub struct Running {
    addresses: Addresses,
    stop: CancellationToken,
    tasks: TaskTracker,
    drain: Duration,
    store: Arc<dyn Store>,
    ca: Arc<Ca>,
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its documents.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Reads an issuing certificate that was given as files again.
    ///
    /// # Errors
    /// It is not usable; then everything stays as it was.
    pub fn reload(&self, now: SystemTime) -> Result<bool, ca::Error> {
        self.ca.reload(now)
    }

    /// Takes no more connections, lets requests and streams under way end for a while, and returns when all is over.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.drain, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some connections did not end in time");
        }
    }

    /// The folder's documents are there before the first sidecar asks.
    async fn follow_folder(&self, mut folder: Folder) {
        let synced = tokio::task::spawn_blocking(move || {
            folder.sync();
            folder
        });
        if let Ok(folder) = synced.await {
            self.tasks.spawn(folder.run(self.stop.clone()));
        }
    }

    /// Whose sidecar goes down is known before the first one asks.
    async fn follow_leavings(&self, store: &Arc<dyn Store>, fleet: &Arc<Fleet>, leader: &watch::Receiver<Standing>) {
        let leavings = Leavings { store: store.clone(), fleet: fleet.clone(), leader: leader.clone() };
        self.tasks.spawn(leavings.begin().await.run(self.stop.clone()));
    }

    /// Asks the cluster who wants sidecars, and answers it.
    async fn webhook(
        &self,
        options: Webhook,
        listener: tokio::net::TcpListener,
        names: &[String],
        leader: &watch::Receiver<Standing>,
        registry: &Registry,
    ) -> Result<(), Error> {
        let client = kube::Client::try_default().await.map_err(|e| Error::Cluster(e.to_string()))?;
        let metrics = webhook::Metrics::new(registry)?;
        let settings = Arc::new(options.settings);
        let own = webhook::Names { configuration: options.configuration };
        let cluster = webhook::Cluster::new(client, own, settings.clone(), metrics.clone());
        cluster.start(&self.ca, leader, &self.tasks, &self.stop);
        let mut all: Vec<String> = ["weir-control-plane", "localhost", "127.0.0.1", "::1"].map(Into::into).into();
        let service = format!("weir-control-plane.{}.svc", settings.namespace);
        all.extend(names.iter().cloned().chain([service]).filter(|name| !name.is_empty()));
        all.dedup();
        let config = tls::https(&self.ca, all, &self.tasks, &self.stop)?;
        let version = cluster.version();
        let parts = webhook::Parts { namespaces: Arc::new(cluster), settings, version, metrics };
        let router = webhook::router(parts);
        self.tasks.spawn(serve::serve_tls(listener, config, router, self.tasks.clone(), self.stop.clone()));
        Ok(())
    }

    fn serve(&self, listener: tokio::net::TcpListener, router: axum::Router) {
        self.tasks.spawn(serve::serve(listener, router, self.tasks.clone(), self.stop.clone()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Sockets {
    api: tokio::net::TcpListener,
    xds: tokio::net::TcpListener,
    metrics: tokio::net::TcpListener,
    webhook: Option<tokio::net::TcpListener>,
}

impl Sockets {
    async fn bind(options: &Options) -> io::Result<Self> {
        Ok(Self {
            api: serve::bind("the REST API", "--api", options.api).await?,
            xds: serve::bind("xDS", "--xds", options.xds).await?,
            metrics: serve::bind("metrics", "--metrics", options.metrics).await?,
            webhook: match &options.webhook {
                Some(webhook) => Some(serve::bind("the admission webhook", "--webhook", webhook.address).await?),
                None => None,
            },
        })
    }

    fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            api: self.api.local_addr()?,
            xds: self.xds.local_addr()?,
            metrics: self.metrics.local_addr()?,
            webhook: self.webhook.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
        })
    }
}

/// Keeps the metrics of who leads, and of when the issuing certificate ends.
async fn tell(mut leader: watch::Receiver<Standing>, ca: Arc<Ca>, metrics: Metrics, stop: CancellationToken) {
    loop {
        let leads = leader.borrow_and_update().leads(Instant::now());
        metrics.leader.set(i64::from(leads));
        let ends = ca.expires().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        metrics.root_expiration.set(i64::try_from(ends).unwrap_or(i64::MAX));
        tokio::select! {
            changed = leader.changed() => if changed.is_err() { return },
            // A leadership that is not renewed ends without a word.
            () = tokio::time::sleep(leader::LIFE / 2) => {}
            () = stop.cancelled() => return,
        }
    }
}
