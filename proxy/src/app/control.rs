//! The control thread: certificate, configuration, pages, and the orderly end.

use super::{Ended, captured::Proof, end::End, heir::Heir};
use crate::{
    admin::{Admin, Command, Health, Logging, Readiness, Scrape, server::serve},
    data, dns,
    drain::Door,
    given_back,
    handover::Named,
    identity::{Identity, Remote, Renewal, Store, Wish},
    options::Options,
    resolve::Upstream,
    state::{Cluster, State, Wanted},
    telemetry::{AccessLog, Metrics},
    xds::{self, Cache, Sink, Status, Stay},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::{Arc, Once},
    time::{Duration, SystemTime},
};
use tokio::{
    runtime,
    sync::{mpsc, watch},
};
use weir_config::{
    model::{ResourceName, Resources, SpiffeId},
    xds::ads::{Node, NodeLocality, text_struct},
};

/// How long the last lines of the access log may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The sockets of the pages.
pub(super) struct Sockets {
    pub(super) admin: TcpListener,
    pub(super) metrics: TcpListener,
    pub(super) health: TcpListener,
}

/// All that the control thread owns.
pub(super) struct Control {
    pub(super) id: SpiffeId,
    pub(super) options: Options,
    pub(super) logging: Logging,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: Arc<AccessLog>,
    pub(super) identity: Arc<Identity>,
    pub(super) status: Arc<Status>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) state: Arc<State>,
    pub(super) wanted: Wanted,
    pub(super) pages: Sockets,
    /// Where the application's questions come in.
    pub(super) questions: Option<dns::Sockets>,
    /// Whom they are passed on to.
    pub(super) resolvers: Arc<Upstream>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) received: mpsc::Receiver<Command>,
    pub(super) end: End,
    /// Opens and shuts all that is listened on.
    pub(super) door: Arc<watch::Sender<Door>>,
    /// Copies of all listening sockets, for a successor.
    pub(super) heritage: Vec<Named>,
    /// Where traffic is captured: that it is.
    pub(super) proof: Option<Proof>,
    pub(super) data: data::Running,
    pub(super) tell_end: watch::Sender<Option<Ended>>,
}

impl Control {
    /// Runs to the end of the process.
    pub(super) fn run(self) {
        let runtime = match runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the control thread has no runtime");
                self.data.stop();
                return;
            }
        };
        runtime.block_on(self.serve());
    }

    async fn serve(self) {
        let Self { pages, questions, log, mut received, end, door, heritage, proof, data, tell_end, .. } = self;
        let admin = Admin {
            identity: self.identity.clone(),
            status: self.status.clone(),
            readiness: self.readiness.clone(),
            logging: self.logging,
            clusters: clusters(&self.state),
            allow_quit: self.options.allow_quit,
            commands: self.commands.clone(),
        };
        let (stay, staying) = watch::channel(Stay::Here);
        let status = self.status.clone();
        self.metrics.add_source(move |out| status.tell(out));
        let draining = self.readiness.drain.clone();
        self.metrics.add_source(move |out| {
            out.family("weir_draining", "gauge", "1 while this process goes down.")
                .sample([], u8::from(draining.is_draining()));
        });
        serve_pages(pages.admin, admin, &door);
        serve_pages(pages.metrics, Scrape(self.metrics.clone()), &door);
        serve_pages(pages.health, Health(self.readiness.clone()), &door);
        if let Some(sockets) = questions {
            let server = dns::Server::new(self.state.clone(), self.status.clone(), self.resolvers, &self.metrics);
            server.listen(sockets, &door);
        }
        if let Some(proof) = proof {
            tokio::spawn(proof.find());
        }
        let renewal = renewal(&self.options, self.id, &self.identity, &self.metrics);
        tokio::spawn(renewal.run());
        let client = xds::Client {
            control_plane: self.options.control_plane.clone(),
            identity: self.identity,
            node: node(&self.options),
            wanted: self.wanted,
            sink: Applied(self.state, Once::new()),
            cache: self
                .options
                .state_directory
                .as_ref()
                .map(|folder| Cache::new(folder.join("config"), self.options.node.id())),
            status: self.status,
            metrics: self.metrics.clone(),
            idle: self.options.idle,
            stay: staying,
        };
        tokio::spawn(client.run());
        let heir =
            tokio::spawn(Heir::new(&self.options.upgrade, self.commands, &self.metrics).wait(heritage, door.clone()));
        // Who goes down has nothing to leave; copies of sockets would keep callers waiting that nobody serves.
        let told = |command| {
            heir.abort();
            stay.send_replace(if command == Command::HandedOver { Stay::Succeeded } else { Stay::Leaving });
        };
        let ended = end.run(&mut received, told).await;
        data.stop();
        log.close(LAST_LINES);
        tracing::info!(?ended, "ended");
        tell_end.send_replace(Some(ended));
    }
}

fn serve_pages(socket: TcpListener, pages: impl crate::admin::server::Pages, door: &watch::Sender<Door>) {
    match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => drop(tokio::spawn(serve(listener, Arc::new(pages), door.subscribe()))),
        Err(error) => tracing::error!(%error, "a page is not served"),
    }
}

fn renewal(
    options: &Options,
    id: SpiffeId,
    identity: &Arc<Identity>,
    metrics: &Arc<Metrics>,
) -> Renewal<Remote, fn() -> SystemTime> {
    Renewal {
        identity: identity.clone(),
        authority: Remote {
            control_plane: options.control_plane.clone(),
            identity: identity.clone(),
            token: options.token.clone(),
        },
        store: options.state_directory.as_ref().map(|folder| Store::new(folder.join("identity.pem"))),
        wish: Wish { life: options.certificate_life, domain: options.trust_domain.clone(), id: Some(id) },
        metrics: metrics.clone(),
        now: SystemTime::now,
    }
}

fn node(options: &Options) -> Node {
    let node = &options.node;
    Node {
        id: node.id(),
        cluster: node.service_account.clone(),
        locality: Some(NodeLocality { region: node.region.clone(), zone: node.zone.clone(), sub_zone: String::new() }),
        metadata: Some(text_struct([("weir.version", env!("CARGO_PKG_VERSION"))])),
        ..Node::default()
    }
}

/// Destinations and their endpoints, as they are now.
fn clusters(state: &Arc<State>) -> Box<dyn Fn() -> Value + Send + Sync> {
    let state = state.clone();
    Box::new(move || {
        let snapshot = state.load();
        let clusters: BTreeMap<_, _> =
            snapshot.clusters.iter().map(|(name, cluster)| (&**name, told(cluster))).collect();
        json!({"version": snapshot.version, "clusters": clusters})
    })
}

fn told(cluster: &Cluster) -> Value {
    let endpoints: Vec<_> = cluster
        .endpoints
        .iter()
        .map(|endpoint| json!({"address": endpoint.address, "workload": endpoint.workload, "mesh": endpoint.mesh}))
        .collect();
    json!({"ejected": cluster.ejected(), "endpoints": endpoints})
}

/// Where the configuration goes.
struct Applied(Arc<State>, Once);

impl Sink for Applied {
    fn apply(&self, resources: &Resources, absent: &BTreeSet<ResourceName>) {
        self.0.apply(resources, absent);
        self.1.call_once(|| drop(tokio::spawn(given_back::soon())));
    }

    fn idle(&self, idle: Duration) -> Vec<ResourceName> {
        self.0.idle_hosts(idle)
    }
}
