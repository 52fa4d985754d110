//! Names on the wire: which service and port an authority or a resource name means.
//!
//! An address that a captured connection was meant for is asked for as `<address>_<port>`, as Istio calls such listeners:
//! no authority of a request reads so.
//!
//! A name's host is `<service>[.<namespace>[.svc[.<cluster-domain>]]]`, as Kubernetes' DNS has it.

use crate::index::{Addressed, Leads, ServiceEntry, WorkloadEntry, World, is_virtual};
use std::{net::IpAddr, sync::Arc};
use weir_config::{
    model::ResourceName,
    resources::{ExternalService, MOST_NAMES, ServicePort, service_of},
};

/// The port of an authority that names none.
const DEFAULT_PORT: u16 = 80;
/// What the names of a node's own listener (`inbound/…`) and clusters (`inbound:…`) start with.
const INBOUND: &str = "inbound";

/// A service's full name: `<service>.<namespace>.svc.<cluster-domain>`.
pub fn fqdn(world: &World, namespace: &str, service: &str) -> String {
    format!("{service}.{namespace}.svc.{}", world.mesh().cluster_domain)
}

/// What the cluster, the endpoints and the routes of a service's port are called: `<fqdn>:<port>`.
pub fn resource_name(world: &World, namespace: &str, service: &str, port: u16) -> ResourceName {
    format!("{}:{port}", fqdn(world, namespace, service)).into()
}

/// By what server name (SNI) a called sidecar knows which port is meant: `<port>.<fqdn>`.
pub fn server_name(world: &World, namespace: &str, service: &str, port: u16) -> Arc<str> {
    format!("{port}.{}", fqdn(world, namespace, service)).into()
}

/// A service's port, found by name.
pub(super) struct Target<'a> {
    pub(super) service: &'a Arc<ServiceEntry>,
    pub(super) port: &'a ServicePort,
}

impl Target<'_> {
    /// The resource name of its cluster, endpoints and routes.
    pub(super) fn resource(&self, world: &World) -> ResourceName {
        resource_name(world, self.service.namespace(), self.service.name(), self.port.port)
    }
}

/// What a captured connection means.
pub(super) enum Captured<'a> {
    /// A service's port.
    Service(Target<'a>),
    /// One instance's port, and a service's port that leads to it.
    Instance(&'a str, Target<'a>),
    /// A port of a host outside the mesh: `<host>:<port>`.
    External(String),
    /// Nothing that is known here; whether hosts outside the mesh are known by their names on this port.
    Unknown { by_name: bool },
    /// An address that we have given to somebody who has no such port: it leads nowhere.
    Nowhere,
}

/// What the address `<address>_<port>` means; `None`: it is no such name.
pub(super) fn captured<'a>(world: &'a World, name: &str) -> Option<Captured<'a>> {
    let (address, port) = name.rsplit_once('_')?;
    let (text, address, port) = (address, address.parse::<IpAddr>().ok()?, number(port)?);
    // One address has one spelling, so that one resource has one name.
    if address.to_string() != text {
        return None;
    }
    let found = match world.address(address) {
        Some(Addressed::Service(service)) => service.port(port).map(|port| Captured::Service(Target { service, port })),
        Some(Addressed::Workloads(workloads)) => workloads.iter().find_map(|workload| {
            workload.services.iter().find_map(|service| {
                let service = world.service(service.namespace(), service.name())?;
                let port = service.ports.iter().find(|p| workload.target(&p.target) == Some(port))?;
                Some(Captured::Instance(workload.name(), Target { service, port }))
            })
        }),
        Some(Addressed::External(host, document)) => external(world, address, host, document, port),
        None => None,
    };
    let unknown = Captured::Unknown { by_name: world.external().is_named(port) };
    Some(found.unwrap_or(if is_virtual(address) { Captured::Nowhere } else { unknown }))
}

fn external<'a>(
    world: &World,
    address: IpAddr,
    host: &str,
    document: &ExternalService,
    port: u16,
) -> Option<Captured<'a>> {
    let named = format!("{host}:{port}");
    let known = match document.port(port) {
        // Others may have the same address, and what is spoken will say whom it is for.
        Some(port) => is_virtual(address) || !port.protocol.carries_a_name(),
        None => is_virtual(address) && super::external::find(world, &named).is_some(),
    };
    known.then_some(Captured::External(named))
}

/// What a host name means.
pub(super) enum Meant<'a> {
    /// A service.
    Service(&'a Arc<ServiceEntry>),
    /// One instance behind a headless service.
    Instance(&'a Arc<WorkloadEntry>),
    /// A host outside the mesh whose addresses are known here.
    External(Vec<IpAddr>),
}

/// What a host name means when it is said in a namespace: `<service>`, or `<instance>.<service>` of a headless one, with
/// or without the namespace and what follows it.
pub(super) fn host<'a>(world: &'a World, namespace: &str, host: &str) -> Option<Meant<'a>> {
    meant(world, namespace, host, MOST_NAMES)
}

/// `more`: so many ExternalNames may lead from one to the next.
fn meant<'a>(world: &'a World, namespace: &str, host: &str, more: usize) -> Option<Meant<'a>> {
    let short = without_domain(world, host);
    let relative = short.len() == host.len();
    let instance = |namespace: &str, service: &str, instance: &str| {
        let service = world.service(namespace, service).filter(|s| s.headless)?;
        let found = service.workloads.iter().find(|w| **w.name() == *instance)?;
        world.workload(namespace, found.name()).map(Meant::Instance)
    };
    match *short.split('.').collect::<Vec<_>>() {
        [service] if relative => world.service(namespace, service).map(Meant::Service),
        [service, named] => match world.service(named, service) {
            Some(service) => Some(Meant::Service(service)),
            // `web-0.web`, where nothing has been added to it yet.
            None if relative => instance(namespace, named, service),
            None => None,
        },
        [first, service, named] => instance(named, service, first),
        _ => None,
    }
    .or_else(|| outside(world, host).map(Meant::External))
    .and_then(|found| match found {
        Meant::Service(service) if service.is_alias() => match world.leads(service)? {
            Leads::Service(service) => Some(Meant::Service(service)),
            Leads::Within(name) => meant(world, "", name, more.checked_sub(1)?),
            Leads::Outside(_, name) => outside(world, name).map(Meant::External),
        },
        found => Some(found),
    })
}

fn outside(world: &World, host: &str) -> Option<Vec<IpAddr>> {
    let document = world.external().exact(host)?;
    let given = || Some(world.given_to_host(host)?.both().to_vec());
    if document.addresses.is_empty() { given() } else { Some(document.addresses.clone()) }
}

/// What the cluster and the routes of one instance behind a service's port are called: `<workload>@<fqdn>:<port>`.
pub(super) fn instance(world: &World, workload: &str, target: &Target<'_>) -> ResourceName {
    format!("{workload}@{}", target.resource(world)).into()
}

/// The instance that a resource name means, and the rest of the name.
pub(super) fn pinned(name: &str) -> (Option<&str>, &str) {
    match name.split_once('@') {
        Some((workload, service)) => (Some(workload), service),
        None => (None, name),
    }
}

/// What an authority means when it is said in a namespace: a Service's port, also where another name leads to it.
pub(super) fn authority<'a>(world: &'a World, namespace: &str, authority: &str) -> Option<Target<'a>> {
    let (service, port) = said(world, namespace, authority)?;
    match world.leads(service)? {
        Leads::Service(service) => Some(Target { service, port: service.port(port)? }),
        Leads::Within(_) | Leads::Outside(..) => None,
    }
}

/// The Service and the port that an authority names when it is said in a namespace. The port need not be one of its own.
pub(super) fn said<'a>(world: &'a World, namespace: &str, authority: &str) -> Option<(&'a Arc<ServiceEntry>, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, number(port)?),
        None => (authority, DEFAULT_PORT),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let short = without_domain(world, host);
    match short.split_once('.') {
        Some((service, namespace)) => Some((world.service(namespace, service)?, port)),
        // `web.svc…` names no namespace: only a bare name is relative.
        None if short.len() == host.len() => Some((world.service(namespace, short)?, port)),
        None => None,
    }
}

/// What the name of a cluster, of endpoints or of routes means: the full form only, and no other name of a Service.
pub(super) fn resource<'a>(world: &'a World, name: &str) -> Option<Target<'a>> {
    let (service, port) = full(world, name)?;
    // Who is called by another name would not know the server name.
    let port = service.port(port).filter(|_| !service.is_alias())?;
    Some(Target { service, port })
}

/// The Service and the port that `<fqdn>:<port>` names. The port need not be one of its own.
pub(super) fn full<'a>(world: &'a World, name: &str) -> Option<(&'a Arc<ServiceEntry>, u16)> {
    let (host, port) = name.rsplit_once(':')?;
    let (namespace, service) = service_of(host, &world.mesh().cluster_domain)?;
    Some((world.service(namespace, service)?, number(port)?))
}

/// The application port of `inbound:<port>`.
pub(super) fn inbound_port(name: &str) -> Option<u16> {
    number(name.strip_prefix(INBOUND)?.strip_prefix(':')?)
}

/// The name of the cluster for an application port.
pub(super) fn inbound_cluster(port: u16) -> ResourceName {
    format!("{INBOUND}:{port}").into()
}

/// The name of a workload's inbound listener.
pub(super) fn inbound_listener(namespace: &str, workload: &str) -> ResourceName {
    format!("{INBOUND}/{namespace}/{workload}").into()
}

/// Whether a name is of a node's own inbound side. (A service called `inbound` on a port reads `inbound:80` too, as an
/// authority; then nothing is lost but that its listener is made once more than needed.)
pub(super) fn is_inbound(name: &str) -> bool {
    name.strip_prefix(INBOUND).is_some_and(|rest| rest.starts_with([':', '/']))
}

/// A host without `.svc` or `.svc.<cluster-domain>` at its end.
fn without_domain<'a>(world: &World, host: &'a str) -> &'a str {
    let local = host.strip_suffix(world.mesh().cluster_domain.as_str()).and_then(|h| h.strip_suffix('.'));
    match local.and_then(|h| h.strip_suffix(".svc")) {
        Some(short) => short,
        None => host.strip_suffix(".svc").unwrap_or(host),
    }
}

/// A port as digits only: one port has one spelling, so one resource has one name.
pub(super) fn number(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    canonical.then(|| text.parse().ok()).flatten()
}
