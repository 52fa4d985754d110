//! The called side: what a workload's own sidecar accepts for its application, from whom, and where it takes it.
//!
//! Callers say by the server name which port of which service they mean, so that one port of the sidecar serves all.
//! Where plain text is accepted too, the port is the one that the captured connection was meant for.

use super::{Class, Node, authz::authz, chains::joined, fqdn, name, server_name, settings, speech::protocol};
use crate::index::{Item, WorkloadEntry, World};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use weir_config::{
    model::{
        Action, Authz, ChainMatch, Cluster, ConnectionLimits, Discovery, Domain, DownstreamTls, Endpoint, Endpoints,
        Forward, HeaderMutations, Health, HttpOptions, INBOUND_PASSTHROUGH, InboundChain, InboundListener,
        InboundTarget, LoadBalancing, Locality, Protocol, ResourceName, Route, RouteConfig, RouteMatch, VirtualHost,
        WeightedCluster,
    },
    resources::{AppProtocol, MtlsMode, Service, ServicePort, Settings, Switch},
};

/// The inbound listener of a node, which must be its own.
pub(super) fn listener(world: &World, node: &Node, resource: &str) -> Option<InboundListener> {
    let name = listener_name(world, node).filter(|own| **own == *resource)?;
    let workload = world.workload(&node.namespace, &node.workload)?;
    let mtls = world.mesh().mtls;
    let mut chains = Vec::new();
    let mut plain = BTreeSet::new();
    for (service, port, app_port) in ports(workload) {
        let own = Chain { world, workload, service, port, app_port };
        if mtls != MtlsMode::Disabled {
            chains.extend(own.spoken().map(|spoken| own.mutual_tls(spoken)));
        }
        // One application port may be behind several services: in plain text nobody says which is meant.
        if mtls != MtlsMode::Strict && plain.insert(app_port) {
            chains.extend(own.spoken().map(|spoken| own.plain_text(spoken)));
        }
    }
    if mtls != MtlsMode::Strict {
        chains.push(elsewhere(world, workload));
    }
    Some(InboundListener { name, chains: joined(chains) })
}

/// What is done with connections in plain text to ports that no service leads to: the application is their own affair, as
/// without a sidecar, save for whom the policies of its namespace and of itself keep out.
fn elsewhere(world: &World, workload: &WorkloadEntry) -> InboundChain {
    InboundChain {
        name: "passthrough".into(),
        matches: ChainMatch::default(),
        tls: None,
        authz: for_bytes(authz(world, workload, None)),
        target: InboundTarget::Tcp { cluster: INBOUND_PASSTHROUGH.into(), idle_timeout: Some(settings::ABANDONED) },
    }
}

/// The name of a node's inbound listener, if the node has an inbound side.
pub(super) fn listener_name(world: &World, node: &Node) -> Option<ResourceName> {
    let workload = own(world, node)?;
    Some(name::inbound_listener(workload.namespace(), workload.name()))
}

/// The names of a node's inbound clusters.
pub(super) fn cluster_names(world: &World, node: &Node) -> BTreeSet<ResourceName> {
    let Some(workload) = own(world, node) else { return BTreeSet::new() };
    let elsewhere = (world.mesh().mtls != MtlsMode::Strict).then(|| INBOUND_PASSTHROUGH.into());
    app_ports(workload).into_keys().map(name::inbound_cluster).chain(elsewhere).collect()
}

/// The application beside the sidecar. No policy of an operator limits what a sidecar does to its own application.
pub(super) fn cluster(world: &World, node: &Node, port: u16) -> Option<Cluster> {
    let workload = own(world, node)?;
    let protocol = *app_ports(workload).get(&port)?;
    let name = name::inbound_cluster(port);
    let endpoint = Endpoint {
        address: SocketAddr::new(workload.app_address, port),
        weight: 1,
        health: Health::Healthy,
        workload: format!("{}/{}", workload.namespace(), workload.name()).into(),
        mesh: false,
    };
    let locality = Locality {
        region: workload.region.clone(),
        zone: workload.zone.clone(),
        priority: 0,
        weight: 1,
        endpoints: vec![endpoint],
    };
    let policy = settings::built_in();
    Some(Cluster {
        discovery: Discovery::Static(Endpoints { name: name.clone(), localities: vec![locality] }),
        name,
        connect_timeout: policy.connect_timeout,
        load_balancing: LoadBalancing::RoundRobin,
        protocol,
        tls: None,
        limits: ConnectionLimits::default(),
        // The only endpoint there is: to take it out would help nobody.
        outlier: None,
        retry_budget: policy.retry_budget,
        panic_threshold_percent: 0,
        idle_timeout: policy.pool_idle_timeout,
        max_connection_age: None,
    })
}

/// A node's workload, if a sidecar of ours or an Envoy stands beside it.
fn own<'a>(world: &'a World, node: &Node) -> Option<&'a Arc<WorkloadEntry>> {
    let workload = world.workload(&node.namespace, &node.workload)?;
    (node.class != Class::Grpc && workload.sidecar.is_some()).then_some(workload)
}

/// The ports of services that lead to a workload, with the application's port behind each, in the order of names.
fn ports<'w>(workload: &'w WorkloadEntry) -> impl Iterator<Item = (&'w Arc<Item<Service>>, &'w ServicePort, u16)> {
    workload.services.iter().flat_map(move |service| {
        let behind = move |port: &'w ServicePort| Some((service, port, workload.target(&port.target)?));
        service.ports.iter().filter_map(behind)
    })
}

/// The application's ports that a service leads to, and what is spoken there. Where services have it both ways, the
/// application does too: each caller's request goes on in the version that it came in.
fn app_ports(workload: &WorkloadEntry) -> BTreeMap<u16, Protocol> {
    let mut spoken = BTreeMap::new();
    for (_, port, app_port) in ports(workload) {
        let one = protocol(workload.protocol(app_port).unwrap_or(port.protocol));
        spoken.entry(app_port).and_modify(|known| *known = both(*known, one)).or_insert(one);
    }
    spoken
}

fn both(one: Protocol, other: Protocol) -> Protocol {
    match (one, other) {
        (one, other) if one == other => one,
        (Protocol::Tcp, http) | (http, Protocol::Tcp) => http,
        _ => Protocol::UseDownstream,
    }
}

/// What a chain takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http,
    HttpIfDetected,
    Bytes,
}

/// Bytes have neither method nor path, so a denial that asks for one cannot tell whether it is meant: it denies (as
/// Istio's does), or requests that nobody has recognised as such would pass it by. Allowances that ask for one allow no
/// bytes as it is.
fn for_bytes(mut authz: Authz) -> Authz {
    for rule in authz.deny.iter_mut().flat_map(|policy| &mut policy.rules) {
        rule.methods.clear();
        rule.paths.clear();
    }
    authz
}

/// One port of the application, as one service leads to it.
struct Chain<'a> {
    world: &'a World,
    workload: &'a WorkloadEntry,
    service: &'a Item<Service>,
    port: &'a ServicePort,
    app_port: u16,
}

impl Chain<'_> {
    /// What is spoken here: one thing, or, where nobody has said it, HTTP and bytes, each with a chain.
    fn spoken(&self) -> impl Iterator<Item = Spoken> + use<> {
        let (http, bytes) = match self.workload.protocol(self.app_port).unwrap_or(self.port.protocol) {
            AppProtocol::Tcp => (None, Some(Spoken::Bytes)),
            AppProtocol::Http | AppProtocol::H2c | AppProtocol::Grpc => (Some(Spoken::Http), None),
            AppProtocol::Detect => (Some(Spoken::HttpIfDetected), Some(Spoken::Bytes)),
        };
        http.into_iter().chain(bytes)
    }

    fn mutual_tls(&self, spoken: Spoken) -> InboundChain {
        let (namespace, service, port) = (self.service.namespace(), self.service.name(), self.port.port);
        let sni = server_name(self.world, namespace, service, port);
        let protocols = if spoken == Spoken::HttpIfDetected { &["http/1.1", "h2"][..] } else { &[] };
        InboundChain {
            name: format!("{service}.{namespace}:{port}").into(),
            matches: ChainMatch {
                server_names: vec![sni.to_string()],
                destination_port: None,
                protocols: protocols.iter().map(ToString::to_string).collect(),
            },
            tls: Some(DownstreamTls { require_client_certificate: true }),
            authz: self.authz(spoken),
            target: self.target(spoken),
        }
    }

    fn plain_text(&self, spoken: Spoken) -> InboundChain {
        let protocols = if spoken == Spoken::HttpIfDetected { &["http/1.1", "h2c"][..] } else { &[] };
        InboundChain {
            name: format!("port:{}", self.app_port).into(),
            matches: ChainMatch {
                server_names: Vec::new(),
                destination_port: Some(self.app_port),
                protocols: protocols.iter().map(ToString::to_string).collect(),
            },
            tls: None,
            authz: self.authz(spoken),
            target: self.target(spoken),
        }
    }

    fn authz(&self, spoken: Spoken) -> Authz {
        let authz = authz(self.world, self.workload, Some(&self.service.key));
        if spoken == Spoken::Bytes { for_bytes(authz) } else { authz }
    }

    fn target(&self, spoken: Spoken) -> InboundTarget {
        let cluster = name::inbound_cluster(self.app_port);
        if spoken == Spoken::Bytes {
            return InboundTarget::Tcp { cluster, idle_timeout: settings::bytes_idle(self.world, &self.service.key) };
        }
        InboundTarget::Http {
            routes: Arc::new(self.routes(cluster)),
            http: HttpOptions {
                stream_idle_timeout: None,
                max_connection_age: settings::effective(self.world, &[&self.service.key])
                    .max_connection_age
                    .map(longer),
                ..HttpOptions::default()
            },
        }
    }

    /// What policies that name this very workload say: all others act on the caller's side.
    fn said(&self) -> Option<&Settings> {
        self.world.settings(&self.workload.key).map(|said| &**said)
    }

    /// The caller's side has the timeouts, and its routes may allow more than its service does. Here is only what ends
    /// streams of callers that are gone: none where the service has none, and otherwise no less than an hour.
    fn stream_idle(&self) -> Option<Duration> {
        if let Some(own) = self.said().and_then(|said| said.idle_timeout) {
            return own.on();
        }
        settings::effective(self.world, &[&self.service.key]).idle_timeout.map(|idle| idle.max(settings::LONG_IDLE))
    }

    fn routes(&self, cluster: ResourceName) -> RouteConfig {
        let to = WeightedCluster {
            name: cluster.clone(),
            weight: 1,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
        };
        let route = Route {
            name: "inbound".into(),
            matches: RouteMatch::default(),
            action: Action::Forward(Forward {
                clusters: vec![to],
                path: None,
                host: None,
                timeout: self.said().and_then(|said| said.request_timeout).and_then(Switch::on),
                idle_timeout: self.stream_idle(),
                retry: None,
                cap_grpc_timeout: true,
            }),
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            fault: self.said().and_then(|said| said.fault.clone()),
        };
        let host = fqdn(self.world, self.service.namespace(), self.service.name());
        let virtual_host = VirtualHost { name: host.into(), domains: vec![Domain::Any], routes: vec![route] };
        RouteConfig { name: cluster, virtual_hosts: vec![virtual_host] }
    }
}

/// Callers of the mesh renew their connections themselves before this; others are told to.
fn longer(age: Duration) -> Duration {
    age.saturating_mul(5) / 4
}
