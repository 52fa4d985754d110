//! Names: which addresses a name means, for sidecars that answer the questions of their applications (DNS).
//!
//! A name is said in a namespace, in any of the forms that the search list of a pod leads to; `<instance>.<service>…`
//! names one instance of a headless service, as a StatefulSet's pods are called.

use super::{Node, name};
use crate::index::{ServiceEntry, Virtual, World};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};
use weir_config::{
    model::{Endpoint, Endpoints, Health, Locality, NAME},
    resources::Workload,
};

/// An endpoint has a port, and a name has none: this one says so.
const NO_PORT: u16 = 53;

/// What `dns/<name>` means, with the health of each instance; the list may be empty (the name exists, without an
/// address). `None`: no such name is the mesh's.
pub(super) fn answer(world: &World, node: &Node, resource: &str) -> Option<Endpoints> {
    let host = resource.strip_prefix(NAME)?;
    let found = match name::host(world, &node.namespace, host)? {
        name::Meant::Service(service) => of_service(world, service),
        name::Meant::External(addresses) => addresses.into_iter().map(|a| (a, Health::Healthy)).collect(),
        name::Meant::Instance(instance) => reachable(instance, Health::Healthy).into_iter().collect(),
    };
    let mut seen = BTreeSet::new();
    let endpoints: Vec<_> = found
        .into_iter()
        .filter(|(address, _)| seen.insert(*address))
        .map(|(address, health)| Endpoint {
            address: SocketAddr::new(address, NO_PORT),
            weight: 1,
            health,
            workload: "".into(),
            mesh: true,
        })
        .collect();
    let place = (String::new(), String::new());
    let locality = Locality { region: place.0, zone: place.1, priority: 0, weight: 1, endpoints };
    Some(Endpoints { name: resource.into(), localities: vec![locality] })
}

fn of_service(world: &World, service: &ServiceEntry) -> Vec<(IpAddr, Health)> {
    if service.headless {
        return service.workloads.iter().filter_map(|w| reachable(w, w.health)).collect();
    }
    let own = service.addresses.iter().copied();
    let given = world.given(&service.key).into_iter().flat_map(Virtual::both);
    own.chain(given).map(|address| (address, Health::Healthy)).collect()
}

/// Many instances may be on one machine: a loopback address says nothing about which is meant.
fn reachable(workload: &Workload, health: Health) -> Option<(IpAddr, Health)> {
    (!workload.address.is_loopback()).then_some((workload.address, health))
}
