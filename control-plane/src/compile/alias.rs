//! Services of `type: ExternalName` that lead outside: another name of a host. Where an ExternalService has the host, it is
//! called as that says. A host that nobody has declared is called by what DNS says of it, with bytes or requests as they
//! come, where the mesh's `outboundTrafficPolicy` lets callers go anywhere: who may write Services may not thereby go where
//! nobody has allowed it.

use super::{
    cluster::balanced,
    external, name, resource_name, route,
    settings::{self, Effective},
    speech,
};
use crate::index::{Leads, World};
use std::sync::Arc;
use weir_config::{
    model::{Cluster, Discovery, ResourceName, RouteConfig},
    resources::{AppProtocol, OutboundMode},
};

/// The routes of an authority that leads to a host outside: those of the host, where an ExternalService has it, or else
/// of the name. `None`: it leads to no such host, or to one that may not be called.
pub(super) fn outside(world: &World, namespace: &str, authority: &str) -> Option<ResourceName> {
    let (service, port) = name::said(world, namespace, authority)?;
    let Leads::Outside(last, host) = world.leads(service)? else { return None };
    let declared = format!("{host}:{port}");
    if external::find(world, &declared).is_some() {
        return Some(declared.into());
    }
    let open = world.mesh().outbound == OutboundMode::AllowAny;
    open.then(|| resource_name(world, last.namespace(), last.name(), port))
}

/// A port of a host outside that nobody has declared.
struct Undeclared<'a> {
    host: &'a str,
    port: u16,
    protocol: AppProtocol,
}

/// What `<fqdn>:<port>` of an ExternalName means: any port, as with DNS alone.
fn find<'a>(world: &'a World, resource: &str) -> Option<Undeclared<'a>> {
    let (service, port) = name::full(world, resource)?;
    let Leads::Outside(last, host) = world.leads(service)? else { return None };
    let open = world.mesh().outbound == OutboundMode::AllowAny && Arc::ptr_eq(last, service);
    // What it says of its ports is all that is known of the host.
    let protocol = service.port(port).map_or(AppProtocol::Detect, |port| port.protocol);
    open.then_some(Undeclared { host, port, protocol })
}

/// The cluster of `<fqdn>:<port>`.
pub(super) fn cluster(world: &World, resource: &str) -> Option<Cluster> {
    let found = find(world, resource)?;
    let discovery = Discovery::Dns { host: found.host.into(), port: found.port };
    // One name is one endpoint: to take it out would help nobody.
    let policy = Effective { outlier: None, ..settings::effective(world, &[]) };
    let cluster = balanced(resource, discovery, speech::protocol(found.protocol), None, policy);
    Some(Cluster { connect_timeout: external::CONNECT, ..cluster })
}

/// The routes of `<fqdn>:<port>`: everything to the host, with the `Host` that the caller wrote.
pub(super) fn routes(world: &World, resource: &str) -> Option<RouteConfig> {
    let found = find(world, resource)?;
    let policy = settings::effective(world, &[]);
    let bytes = found.protocol == AppProtocol::Tcp;
    let idle_timeout = if bytes { Some(settings::ABANDONED) } else { policy.idle_timeout };
    Some(route::outside(resource, Effective { idle_timeout, ..policy }))
}
