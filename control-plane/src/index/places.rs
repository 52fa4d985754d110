//! Where everything is: what each address means, and the addresses that are given here. They are kept as names: what becomes
//! of an instance besides its address is no matter here, so that this is as it was as long as nobody comes, goes or moves.

use super::{Addressed, External, Item, Namespace, Virtual, World, virtual_ip::assign};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use weir_config::resources::{ExternalService, Key};

/// What is reached under an address, by its name.
#[derive(Debug)]
pub(super) enum Place {
    Service(Key),
    Workloads(Vec<Key>),
    External(Arc<str>, Arc<Item<ExternalService>>),
}

impl Place {
    /// What stands there.
    pub(super) fn of<'a>(&'a self, world: &'a World) -> Option<Addressed<'a>> {
        Some(match self {
            Self::Service(key) => Addressed::Service(world.service(&key.namespace, &key.name)?),
            Self::Workloads(all) => {
                Addressed::Workloads(all.iter().filter_map(|key| world.workload(&key.namespace, &key.name)).collect())
            }
            Self::External(host, document) => Addressed::External(host, document),
        })
    }
}

/// Whether a namespace has the same instances at the same addresses as before.
pub(super) fn stay(now: Option<&Arc<Namespace>>, before: Option<&Arc<Namespace>>) -> bool {
    let at = |n: &Arc<Namespace>| n.workloads.values().map(|w| (w.name().clone(), w.address)).collect::<Vec<_>>();
    matches!((now, before), (Some(now), Some(before)) if at(now) == at(before))
}

/// A service's address is its own: what else is said to be there is not reached under it.
pub(super) fn all(
    namespaces: &BTreeMap<Arc<str>, Arc<Namespace>>,
    external: &External,
    given: &BTreeMap<Arc<str>, Virtual>,
) -> BTreeMap<IpAddr, Place> {
    let mut addresses = BTreeMap::new();
    for (host, document) in external.hosts() {
        let virtuals = given.get(host).into_iter().flat_map(|given| given.both());
        // Bytes alone are known by the address: other hosts may share it.
        let own = document.addresses.iter().copied().filter(|_| document.has_nameless_ports());
        for address in own.chain(virtuals) {
            addresses.entry(address).or_insert_with(|| Place::External(host.into(), document.clone()));
        }
    }
    for workload in namespaces.values().flat_map(|n| n.workloads.values()) {
        if workload.address.is_loopback() {
            continue;
        }
        let there = addresses.entry(workload.address).or_insert_with(|| Place::Workloads(Vec::new()));
        // What is of the mesh is not outside it.
        if matches!(there, Place::External(..)) {
            *there = Place::Workloads(Vec::new());
        }
        if let Place::Workloads(all) = there {
            all.push(workload.key.clone());
        }
    }
    for service in namespaces.values().flat_map(|n| n.services.values()) {
        for address in given.get(&*name_of(&service.key)).into_iter().flat_map(|given| given.both()) {
            addresses.entry(address).or_insert_with(|| Place::Service(service.key.clone()));
        }
        for address in &service.addresses {
            addresses.insert(*address, Place::Service(service.key.clone()));
        }
    }
    addresses
}

/// Addresses for services that have none and are not headless, so that their names can be answered; the oldest choose
/// first.
pub(super) fn given(
    namespaces: &BTreeMap<Arc<str>, Arc<Namespace>>,
    external: &External,
) -> BTreeMap<Arc<str>, Virtual> {
    let all = namespaces.values().flat_map(|n| n.services.values());
    let without: Vec<_> = all.filter(|s| s.addresses.is_empty() && !s.headless && !s.is_alias()).collect();
    let services = without.iter().map(|s| (s.stored.created, name_of(&s.key)));
    // Where a resolver says where a host is, its address is anybody's, and may be another tomorrow.
    let hosts = external.hosts().filter(|(_, d)| d.addresses.is_empty() && d.has_nameless_ports());
    let hosts = hosts.map(|(host, document)| (document.stored.created, host.into()));
    let mut all: Vec<_> = services.chain(hosts).collect();
    all.sort();
    assign(all.into_iter().map(|(_, name)| name))
}

/// What a service is called where addresses are given; no host's name reads so.
pub(super) fn name_of(service: &Key) -> Arc<str> {
    service.to_string().into()
}
