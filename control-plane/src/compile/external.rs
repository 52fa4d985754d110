//! Hosts outside the mesh: how they are called. What each is called is `<host>:<port>`, also of one that only a domain
//! above it stands for: so resources are made for the hosts that are called.

use super::{
    cluster::balanced,
    route,
    settings::{self, Effective},
    speech,
};
use crate::index::{Item, World};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use weir_config::{
    model::{Cluster, Discovery, Endpoint, Endpoints, Health, Locality, RouteConfig},
    resources::{ExternalProtocol, ExternalService, OutboundMode},
};

/// How long a connection may take to be made, names and all: what is outside may be far.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// A port of a host.
pub(super) struct Found<'a> {
    item: &'a Arc<Item<ExternalService>>,
    host: &'a str,
    port: u16,
    protocol: ExternalProtocol,
}

/// What `<host>:<port>` means.
pub(super) fn find<'a>(world: &'a World, name: &'a str) -> Option<Found<'a>> {
    let (host, port) = name.rsplit_once(':')?;
    let number = super::name::number(port)?;
    let item = world.external().host(host)?;
    let protocol = match item.port(number) {
        Some(port) => port.protocol,
        // Who was given an address for it may call any port, as ever, unless only what is written may be called.
        None if world.given_to_host(host).is_some() && world.mesh().outbound == OutboundMode::AllowAny => {
            ExternalProtocol::Tcp
        }
        None => return None,
    };
    Some(Found { item, host, port: number, protocol })
}

/// The cluster of `<host>:<port>`.
pub(super) fn cluster(world: &World, resource: &str) -> Option<Cluster> {
    let found = find(world, resource)?;
    let policy = settings::effective(world, &[&found.item.key]);
    let said = world.settings(&found.item.key).and_then(|said| said.connect_timeout);
    let (discovery, outlier) = match &found.item.addresses[..] {
        // One name is one endpoint: to take it out would help nobody.
        [] => (Discovery::Dns { host: found.host.into(), port: found.port }, None),
        _ => (Discovery::Static(endpoints(resource, &found)), policy.outlier.clone()),
    };
    let protocol = speech::protocol(found.protocol.app());
    let cluster = balanced(resource, discovery, protocol, None, Effective { outlier, ..policy });
    Some(Cluster { connect_timeout: said.unwrap_or(CONNECT), ..cluster })
}

fn endpoints(resource: &str, found: &Found<'_>) -> Endpoints {
    let endpoint = |address: &std::net::IpAddr| Endpoint {
        address: SocketAddr::new(*address, found.port),
        weight: 1,
        health: Health::Healthy,
        workload: found.host.into(),
        mesh: false,
    };
    let endpoints = found.item.addresses.iter().map(endpoint).collect();
    let locality = Locality { region: String::new(), zone: String::new(), priority: 0, weight: 1, endpoints };
    Endpoints { name: resource.into(), localities: vec![locality] }
}

/// The routes of `<host>:<port>`: everything to it.
pub(super) fn routes(world: &World, resource: &str) -> Option<RouteConfig> {
    let found = find(world, resource)?;
    let policy = settings::effective(world, &[&found.item.key]);
    let http = matches!(found.protocol, ExternalProtocol::Http | ExternalProtocol::Http2);
    let idle_timeout = if http { policy.idle_timeout } else { settings::bytes_idle(world, &found.item.key) };
    Some(route::outside(resource, Effective { idle_timeout, ..policy }))
}
