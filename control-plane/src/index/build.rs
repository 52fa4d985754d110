//! From a snapshot to a world, in one pass over the documents and one over what refers to what.

use super::{
    Addressed, External, Item, Namespace, ServiceEntry, Virtual, WorkloadEntry, World, select::Labels,
    virtual_ip::assign,
};
use crate::store::{Snapshot, Stored};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use weir_config::resources::{
    AuthorizationPolicy, Document, ExternalService, Key, Mesh, RouteSpec, Service, Settings, TrafficPolicy, Workload,
};

/// The documents by kind, each kind in the order of namespace and name.
#[derive(Default)]
struct Sorted {
    mesh: Option<Arc<Mesh>>,
    services: Vec<Arc<Item<Service>>>,
    workloads: Vec<Arc<Item<Workload>>>,
    external: Vec<Arc<Item<ExternalService>>>,
    routes: BTreeMap<Arc<Key>, Arc<Item<RouteSpec>>>,
    policies: Vec<Item<TrafficPolicy>>,
    authorizations: Vec<Arc<Item<AuthorizationPolicy>>>,
}

pub(super) fn world(snapshot: Arc<Snapshot>, previous: &World) -> World {
    let mut sorted = sort(&snapshot, previous);
    sorted.external.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
    let external = External::new(&sorted.external);
    let attached = attached(&sorted.routes);
    let mut namespaces: BTreeMap<Arc<str>, Namespace> = BTreeMap::new();
    let mut labels: BTreeMap<&str, Labels<'_>> = BTreeMap::new();
    for workload in &sorted.workloads {
        labels.entry(workload.namespace()).or_default().add(workload);
    }
    // The services of each workload, by its key; filled service by service, so they come in order.
    let mut services_of: BTreeMap<&Key, Vec<Arc<Item<Service>>>> = BTreeMap::new();
    for item in &sorted.services {
        let workloads = labels.get(&**item.namespace()).map_or_else(Vec::new, |l| l.behind(item));
        let routes = attached.get(&(&**item.namespace(), &**item.name())).cloned().unwrap_or_default();
        for workload in &workloads {
            if let Ok(n) = sorted.workloads.binary_search_by(|w| w.key.cmp(&workload.key)) {
                services_of.entry(&sorted.workloads[n].key).or_default().push(item.clone());
            }
        }
        let entry = ServiceEntry { item: item.clone(), workloads, routes };
        let entry = kept_service(entry, previous);
        namespaces.entry(item.namespace().clone()).or_default().services.insert(item.name().clone(), entry);
    }
    for item in &sorted.workloads {
        let services = services_of.remove(&item.key).unwrap_or_default();
        let entry = kept_workload(WorkloadEntry { item: item.clone(), services }, previous);
        namespaces.entry(item.namespace().clone()).or_default().workloads.insert(item.name().clone(), entry);
    }
    for item in sorted.authorizations {
        namespaces.entry(item.namespace().clone()).or_default().authorizations.push(item);
    }
    let mesh = sorted.mesh.unwrap_or_default();
    let given = given(&namespaces, &external);
    let addresses = addresses(&namespaces, &external, &given);
    let settings = settings(sorted.policies);
    World { mesh, namespaces, routes: sorted.routes, settings, addresses, given, external, snapshot }
}

/// A service's address is its own: what else is said to be there is not reached under it.
fn addresses(
    namespaces: &BTreeMap<Arc<str>, Namespace>,
    external: &External,
    given: &BTreeMap<Arc<str>, Virtual>,
) -> BTreeMap<IpAddr, Addressed> {
    let mut addresses = BTreeMap::new();
    for (host, document) in external.hosts() {
        let virtuals = given.get(host).into_iter().flat_map(|given| given.both());
        // Bytes alone are known by the address: other hosts may share it.
        let own = document.addresses.iter().copied().filter(|_| document.has_nameless_ports());
        for address in own.chain(virtuals) {
            addresses.entry(address).or_insert_with(|| Addressed::External(host.into(), document.clone()));
        }
    }
    for workload in namespaces.values().flat_map(|n| n.workloads.values()) {
        if workload.address.is_loopback() {
            continue;
        }
        let there = addresses.entry(workload.address).or_insert_with(|| Addressed::Workloads(Vec::new()));
        // What is of the mesh is not outside it.
        if matches!(there, Addressed::External(..)) {
            *there = Addressed::Workloads(Vec::new());
        }
        if let Addressed::Workloads(all) = there {
            all.push(workload.clone());
        }
    }
    for service in namespaces.values().flat_map(|n| n.services.values()) {
        for address in given.get(&*name_of(&service.key)).into_iter().flat_map(|given| given.both()) {
            addresses.entry(address).or_insert_with(|| Addressed::Service(service.clone()));
        }
        for address in &service.addresses {
            addresses.insert(*address, Addressed::Service(service.clone()));
        }
    }
    addresses
}

/// Addresses for services that have none and are not headless, so that their names can be answered; the oldest choose
/// first.
fn given(namespaces: &BTreeMap<Arc<str>, Namespace>, external: &External) -> BTreeMap<Arc<str>, Virtual> {
    let all = namespaces.values().flat_map(|n| n.services.values());
    let without: Vec<_> = all.filter(|s| s.addresses.is_empty() && !s.headless).collect();
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

fn sort(snapshot: &Snapshot, previous: &World) -> Sorted {
    let mut sorted = Sorted::default();
    for (key, stored) in snapshot.iter() {
        let (ns, name) = (&*key.namespace, &*key.name);
        match &*stored.document {
            Document::Mesh(o) => drop(sorted.mesh.get_or_insert_with(|| Arc::new(o.spec.clone()))),
            Document::Service(o) => {
                let old = previous.service(ns, name).map(|e| &e.item);
                sorted.services.push(item(key, stored, &o.spec, old));
            }
            Document::Workload(o) => {
                let old = previous.workload(ns, name).map(|e| &e.item);
                sorted.workloads.push(item(key, stored, &o.spec, old));
            }
            Document::ExternalService(o) => {
                sorted.external.push(Arc::new(Item {
                    key: Key::clone(key),
                    stored: stored.clone(),
                    spec: o.spec.clone(),
                }));
            }
            Document::HttpRoute(o) | Document::GrpcRoute(o) => {
                let old = previous.routes.get(key);
                sorted.routes.insert(key.clone(), item(key, stored, &o.spec, old));
            }
            Document::AuthorizationPolicy(o) => {
                let old = previous.namespaces.get(ns).and_then(|n| {
                    let at = n.authorizations.binary_search_by(|a| (**a.name()).cmp(name)).ok()?;
                    n.authorizations.get(at)
                });
                sorted.authorizations.push(item(key, stored, &o.spec, old));
            }
            Document::TrafficPolicy(o) => {
                sorted.policies.push(Item { key: Key::clone(key), stored: stored.clone(), spec: o.spec.clone() });
            }
        }
    }
    sorted
}

/// The item of the world before, if it is of the very same write; otherwise a new one.
fn item<S: Clone>(key: &Key, stored: &Arc<Stored>, spec: &S, old: Option<&Arc<Item<S>>>) -> Arc<Item<S>> {
    match old {
        Some(old) if Arc::ptr_eq(&old.stored, stored) => old.clone(),
        _ => Arc::new(Item { key: key.clone(), stored: stored.clone(), spec: spec.clone() }),
    }
}

/// The routes of each service, oldest first.
fn attached(routes: &BTreeMap<Arc<Key>, Arc<Item<RouteSpec>>>) -> BTreeMap<(&str, &str), Vec<Arc<Item<RouteSpec>>>> {
    let mut attached: BTreeMap<(&str, &str), Vec<Arc<Item<RouteSpec>>>> = BTreeMap::new();
    for route in routes.values() {
        for parent in &route.parents {
            let of = attached.entry((&*parent.service.namespace, &*parent.service.name)).or_default();
            // A route may name several ports of one service.
            if !of.last().is_some_and(|last| Arc::ptr_eq(last, route)) {
                of.push(route.clone());
            }
        }
    }
    for of in attached.values_mut() {
        of.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
    }
    attached
}

/// What the policies of each target say together.
fn settings(mut policies: Vec<Item<TrafficPolicy>>) -> BTreeMap<Key, Arc<Settings>> {
    policies.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
    let mut by_target: BTreeMap<Key, Settings> = BTreeMap::new();
    for policy in &policies {
        for target in &policy.targets {
            let said = by_target.entry(target.key(policy.namespace())).or_default();
            *said = said.over(&policy.settings);
        }
    }
    by_target.into_iter().map(|(key, said)| (key, Arc::new(said))).collect()
}

fn kept_service(entry: ServiceEntry, previous: &World) -> Arc<ServiceEntry> {
    match previous.service(entry.namespace(), entry.name()) {
        Some(old)
            if Arc::ptr_eq(&old.item, &entry.item)
                && same(&old.workloads, &entry.workloads)
                && same(&old.routes, &entry.routes) =>
        {
            old.clone()
        }
        _ => Arc::new(entry),
    }
}

fn kept_workload(entry: WorkloadEntry, previous: &World) -> Arc<WorkloadEntry> {
    match previous.workload(entry.namespace(), entry.name()) {
        Some(old) if Arc::ptr_eq(&old.item, &entry.item) && same(&old.services, &entry.services) => old.clone(),
        _ => Arc::new(entry),
    }
}

fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}
