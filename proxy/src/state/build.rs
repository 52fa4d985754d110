//! From resources to a snapshot: everything that did not change is taken over as it is, and what is alive in the rest
//! (pools, averages, breakers, budgets, limits) moves into its successor.

use super::{
    Cluster, Endpoint, Forward, Host, HostEntry, Inbound, InboundChain, InboundService, Parts, Route, RouteAction,
    RouteTable, Snapshot, Speech, Target,
    cluster::{members, millis, part},
    inbound::Chains,
    names,
};
use crate::{
    logic::{ClusterLimits, EndpointHealth, Outlier, PeakEwma, Picker, RetryBudget},
    telemetry::{Direction, RouteLabels},
    upstream::{Dialer, Pool, TlsTarget},
};
use bytes::Bytes;
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use weir_config::model::{
    self, Action, Discovery, InboundTarget, Listener, LoadBalancing, NAME, Protocol, ResourceName, Resources,
    RouteConfig, RouteSource,
};

/// An idle connection to another sidecar, which never closes one first, is kept for so long.
const MESH_IDLE: Duration = Duration::from_secs(90);
/// An application may close idle connections after as little as 5 s (Node.js): we close ours before.
const APPLICATION_IDLE: Duration = Duration::from_secs(3);

/// Builds the successor of `before`.
pub(super) fn snapshot(
    parts: &Parts,
    before: &Snapshot,
    resources: &Resources,
    absent: &BTreeSet<ResourceName>,
) -> Snapshot {
    let clusters: HashMap<_, _> = resources
        .clusters
        .iter()
        .map(|(name, config)| (name.clone(), cluster(parts, before.clusters.get(name), config, resources)))
        .collect();
    let mut builder = Builder { parts, before, resources, clusters, tables: HashMap::new() };
    let absent_hosts = absent.iter().filter(|name| !name.starts_with(NAME));
    let mut hosts: HashMap<Arc<str>, HostEntry> = absent_hosts.map(|name| (name.clone(), HostEntry::Absent)).collect();
    let names = names::known(before, resources, absent, parts.born.elapsed());
    let mut inbound = None;
    for (name, listener) in &resources.listeners {
        match &**listener {
            Listener::Api(api) => {
                if let Some(host) = builder.host(name, api) {
                    hosts.insert(name.clone(), HostEntry::Ready(host));
                }
            }
            Listener::Inbound(listener) => inbound = Some(Arc::new(builder.inbound(listener))),
        }
    }
    let Builder { clusters, tables, .. } = builder;
    for (name, old) in &before.clusters {
        close_lost(old, clusters.get(name));
    }
    Snapshot { version: before.version + 1, hosts, names, clusters, inbound, tables }
}

/// Connections to endpoints that are gone are closed as they become idle.
fn close_lost(old: &Arc<Cluster>, new: Option<&Arc<Cluster>>) {
    if new.is_some_and(|new| Arc::ptr_eq(old, new)) {
        return;
    }
    for endpoint in &old.endpoints {
        let kept = new.is_some_and(|new| new.endpoints.iter().any(|e| Arc::ptr_eq(e, endpoint)));
        if !kept {
            endpoint.pool.close();
        }
    }
}

struct Builder<'b> {
    parts: &'b Parts,
    before: &'b Snapshot,
    resources: &'b Resources,
    clusters: HashMap<ResourceName, Arc<Cluster>>,
    tables: HashMap<ResourceName, (Arc<RouteConfig>, Arc<RouteTable>)>,
}

impl Builder<'_> {
    fn host(&mut self, name: &Arc<str>, api: &model::ApiListener) -> Option<Arc<Host>> {
        let config = match &api.routes {
            RouteSource::Inline(config) => config,
            RouteSource::Rds(route) => self.resources.routes.get(route)?,
        };
        let routes = self.table(Direction::Outbound, config);
        let (used, clients_speak_http) = match self.before.hosts.get(name) {
            Some(HostEntry::Ready(old))
                if Arc::ptr_eq(&old.routes, &routes) && old.http == api.http && old.by_name == api.by_name =>
            {
                return Some(old.clone());
            }
            Some(HostEntry::Ready(old)) => (old.used.clone(), old.clients_speak_http.clone()),
            _ => (Arc::new(self.parts.born.elapsed().as_secs().into()), Arc::default()),
        };
        let speech = speech(name, &routes);
        let (name, http, by_name) = (name.clone(), api.http.clone(), api.by_name);
        Some(Arc::new(Host { name, routes, http, speech, by_name, clients_speak_http, used }))
    }

    fn inbound(&mut self, listener: &model::InboundListener) -> Inbound {
        let mut inbound = Inbound { by_name: HashMap::new(), by_port: HashMap::new(), rest: Chains::default() };
        for config in &listener.chains {
            let service = match &config.target {
                InboundTarget::Http { routes, http } => {
                    InboundService::Http { routes: self.table(Direction::Inbound, routes), http: http.clone() }
                }
                InboundTarget::Tcp { cluster, idle_timeout } => {
                    InboundService::Tcp { cluster: self.clusters.get(cluster).cloned(), idle_timeout: *idle_timeout }
                }
            };
            let chain = Arc::new(InboundChain {
                name: config.name.clone(),
                tls: config.tls,
                authz: config.authz.clone(),
                service,
            });
            let only_http = !config.matches.protocols.is_empty();
            for name in &config.matches.server_names {
                inbound.by_name.entry(name.clone()).or_default().set(chain.clone(), only_http);
            }
            match config.matches.destination_port {
                Some(port) => inbound.by_port.entry(port).or_default().set(chain, only_http),
                None if config.matches.server_names.is_empty() => inbound.rest.set(chain, only_http),
                None => {}
            }
        }
        inbound
    }

    fn table(&mut self, direction: Direction, config: &Arc<RouteConfig>) -> Arc<RouteTable> {
        // Inline tables of the inbound side share a name across listeners only if they are the same resource.
        if let Some((known, table)) = self.tables.get(&config.name)
            && Arc::ptr_eq(known, config)
        {
            return table.clone();
        }
        let table = match self.before.tables.get(&config.name) {
            Some((known, table)) if known == config && self.still_true(table) => table.clone(),
            _ => Arc::new(self.new_table(direction, config)),
        };
        self.tables.insert(config.name.clone(), (config.clone(), table.clone()));
        table
    }

    /// Whether a table's destinations are those of this snapshot.
    fn still_true(&self, table: &RouteTable) -> bool {
        table.routes().all(|route| match &route.action {
            RouteAction::Forward(forward) => {
                forward.targets.iter().all(|target| match (&target.cluster, self.clusters.get(&target.name)) {
                    (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                    (None, None) => true,
                    _ => false,
                })
            }
            _ => true,
        })
    }

    fn new_table(&self, direction: Direction, config: &RouteConfig) -> RouteTable {
        let hosts = config.virtual_hosts.iter().map(|host| {
            let routes = host.routes.iter().map(|route| Arc::new(self.route(direction, config, route))).collect();
            (host.domains.clone(), routes)
        });
        RouteTable::new(config.name.clone(), hosts.collect())
    }

    fn route(&self, direction: Direction, table: &RouteConfig, route: &model::Route) -> Route {
        let action = match &route.action {
            Action::Redirect(redirect) => RouteAction::Redirect(redirect.clone()),
            Action::Respond { status, body } => RouteAction::Respond(*status, Bytes::from(body.clone())),
            Action::Forward(forward) => RouteAction::Forward(Forward {
                total: forward.clusters.iter().map(|c| u64::from(c.weight)).sum(),
                targets: forward.clusters.iter().map(|c| Arc::new(self.target(direction, table, route, c))).collect(),
                path: forward.path.clone(),
                host: forward.host.clone(),
                timeout: forward.timeout,
                idle_timeout: forward.idle_timeout,
                retry: forward.retry.clone(),
                cap_grpc_timeout: forward.cap_grpc_timeout,
            }),
        };
        Route {
            name: route.name.clone(),
            matches: route.matches.clone(),
            action,
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            fault: route.fault.clone(),
        }
    }

    fn target(
        &self,
        direction: Direction,
        table: &RouteConfig,
        route: &model::Route,
        target: &model::WeightedCluster,
    ) -> Target {
        let cluster = self.clusters.get(&target.name).cloned();
        let tls = cluster.as_ref().is_some_and(|c| c.config.tls.is_some());
        let destination = match direction {
            Direction::Outbound => whole(&target.name),
            Direction::Inbound => table.name.clone(),
        };
        let workload = self.parts.workload.clone();
        let labels = RouteLabels { direction, workload, destination, route: route.name.clone(), tls };
        Target {
            name: target.name.clone(),
            cluster,
            weight: target.weight,
            request_headers: target.request_headers.clone(),
            response_headers: target.response_headers.clone(),
            metrics: self.parts.metrics.route(labels),
        }
    }
}

/// One instance of a destination is counted as that destination.
fn whole(cluster: &ResourceName) -> ResourceName {
    cluster.split_once('@').map_or_else(|| cluster.clone(), |(_, service)| service.into())
}

/// What is spoken, by the first destination of the first route.
fn speech(name: &str, routes: &RouteTable) -> Speech {
    let Some(RouteAction::Forward(forward)) = routes.first(name).map(|route| &route.action) else {
        return Speech::Http;
    };
    let Some(cluster) = forward.targets.first().and_then(|target| target.cluster.as_ref()) else { return Speech::Http };
    match (&cluster.config.discovery, cluster.config.protocol) {
        (Discovery::OriginalDestination, _) => Speech::Outside,
        (_, Protocol::Tcp) => Speech::Bytes,
        (_, Protocol::UseDownstream) => Speech::Detect,
        (_, Protocol::Http1 | Protocol::Http2) => Speech::Http,
    }
}

pub(super) fn cluster(
    parts: &Parts,
    before: Option<&Arc<Cluster>>,
    config: &Arc<model::Cluster>,
    resources: &Resources,
) -> Arc<Cluster> {
    let source = match &config.discovery {
        Discovery::Static(endpoints) => Arc::new(endpoints.clone()),
        Discovery::Dns { host, port } => Arc::new(named(&config.name, host, *port)),
        Discovery::OriginalDestination => Arc::new(model::Endpoints { name: config.name.clone(), localities: vec![] }),
        Discovery::Eds(name) => resources
            .endpoints
            .get(name)
            .cloned()
            .unwrap_or_else(|| Arc::new(model::Endpoints { name: name.clone(), localities: vec![] })),
    };
    if let Some(old) = before
        && old.config == *config
        && old.source == source
    {
        return old.clone();
    }
    let now = Instant::now();
    let limits = before.map_or_else(|| Arc::new(ClusterLimits::new(&config.limits)), |old| old.limits.clone());
    limits.set(&config.limits);
    let budget = match before {
        Some(old) if *old.budget.config() == config.retry_budget => old.budget.clone(),
        _ => Arc::new(RetryBudget::new(config.retry_budget, now)),
    };
    let endpoints = endpoints(parts, before, config, &source, now);
    let health: Vec<Arc<EndpointHealth>> = endpoints.iter().map(|e| e.health.clone()).collect();
    let outlier = config.outlier.clone().map(|detection| {
        let outlier = Outlier::new(detection, health, now);
        match before.and_then(|old| old.outlier.as_ref()) {
            Some(old) => outlier.after(old),
            None => outlier,
        }
    });
    let part = part(&parts.workload, config.protocol);
    let mut picker = Picker::new(&config.load_balancing, &members(&source), config.panic_threshold_percent, part);
    if let Some(old) = before {
        picker = picker.after(&old.picker, millis(parts.born, now));
    }
    Arc::new(Cluster {
        dialer: dialer(parts, config, &limits),
        picker,
        born: parts.born,
        metrics: before.map_or_else(|| parts.metrics.cluster(&whole(&config.name)), |old| old.metrics.clone()),
        config: config.clone(),
        limits,
        budget,
        endpoints,
        source,
        outlier,
    })
}

fn dialer(parts: &Parts, config: &model::Cluster, limits: &Arc<ClusterLimits>) -> Dialer {
    let idle = if config.tls.is_some() { MESH_IDLE } else { APPLICATION_IDLE };
    Dialer {
        connect_timeout: config.connect_timeout,
        idle_timeout: config.idle_timeout.unwrap_or(idle),
        http2_idle_timeout: config.idle_timeout.unwrap_or(MESH_IDLE),
        max_age: config.max_connection_age,
        tls: config
            .tls
            .as_ref()
            .map(|tls| TlsTarget { sni: tls.sni.clone(), identities: tls.identities.clone().into() }),
        limits: limits.clone(),
        client: parts.client.clone(),
        host: match &config.discovery {
            Discovery::Dns { host, .. } => Some((host.clone(), parts.resolver.clone())),
            _ => None,
        },
        // What is called in plain text at a fixed address is our own application.
        beside: match &config.discovery {
            Discovery::Static(_) if config.tls.is_none() => Some(parts.beside.clone()),
            _ => None,
        },
    }
}

/// The one endpoint of a host that is known by its name; where it is turns out when it is called.
fn named(cluster: &ResourceName, host: &Arc<str>, port: u16) -> model::Endpoints {
    let endpoint = model::Endpoint {
        address: SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port),
        weight: 1,
        health: model::Health::Healthy,
        workload: host.clone(),
        mesh: false,
    };
    let locality = model::Locality {
        region: String::new(),
        zone: String::new(),
        priority: 0,
        weight: 1,
        endpoints: vec![endpoint],
    };
    model::Endpoints { name: cluster.clone(), localities: vec![locality] }
}

fn endpoints(
    parts: &Parts,
    before: Option<&Arc<Cluster>>,
    config: &model::Cluster,
    source: &model::Endpoints,
    now: Instant,
) -> Box<[Arc<Endpoint>]> {
    // A connection that was made for another identity or protocol may not carry requests of the new configuration.
    let same_wire = before.filter(|old| old.config.tls == config.tls && old.config.protocol == config.protocol);
    let old: HashMap<(SocketAddr, bool), &Arc<Endpoint>> =
        same_wire.iter().flat_map(|old| old.endpoints.iter()).map(|e| ((e.address, e.mesh), e)).collect();
    let (decay, rtt) = match config.load_balancing {
        LoadBalancing::PeakEwma { decay, default_rtt } => (decay, default_rtt),
        _ => (Duration::from_secs(10), Duration::from_millis(30)),
    };
    let all = source.localities.iter().flat_map(|l| &l.endpoints);
    all.map(|endpoint| match old.get(&(endpoint.address, endpoint.mesh)) {
        Some(alive) if alive.workload == endpoint.workload => (*alive).clone(),
        _ => Arc::new(Endpoint {
            address: endpoint.address,
            workload: endpoint.workload.clone(),
            mesh: endpoint.mesh,
            pool: Pool::new(endpoint.address, endpoint.mesh, parts.workers),
            load: Arc::new(PeakEwma::new(decay, rtt, now)),
            health: Arc::default(),
        }),
    })
    .collect()
}
