//! From a snapshot to a world. What the snapshot shares with that of the world before is not looked at again: where an
//! instance comes, goes or changes its health, its namespace is made anew and nothing else.

use super::{
    Item, Namespace, Near, Routes, ServiceEntry, WorkloadEntry, World, external::External, places, select::Labels,
};
use crate::store::{Snapshot, Stored};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weir_config::resources::{Document, Key, Kind, Mesh, RouteSpec, Service, Settings, TrafficPolicy, Workload};

/// The kinds that a namespace is made of.
const PARTS: [Kind; 3] = [Kind::Service, Kind::Workload, Kind::AuthorizationPolicy];

pub(super) fn world(snapshot: Arc<Snapshot>, previous: &World) -> World {
    let same = |kind| snapshot.shares(&previous.snapshot, kind);
    let external = if same(Kind::ExternalService) { previous.external.clone() } else { external(&snapshot).into() };
    let kept = same(Kind::HttpRoute) && same(Kind::GrpcRoute);
    let routes = if kept { previous.routes.clone() } else { routes(&snapshot, &previous.routes).into() };
    let settings = if same(Kind::TrafficPolicy) { previous.settings.clone() } else { settings(&snapshot).into() };
    let names: BTreeSet<&Arc<str>> = PARTS.into_iter().flat_map(|kind| snapshot.namespaces(kind)).collect();
    let mut namespaces: BTreeMap<Arc<str>, Arc<Namespace>> = BTreeMap::new();
    let mut changed = Vec::new();
    for name in names {
        let old = previous.namespaces.get(name);
        let same = kept && PARTS.into_iter().all(|kind| snapshot.shares_in(&previous.snapshot, kind, name));
        let made = match old.filter(|_| same) {
            Some(old) => old.clone(),
            None => {
                changed.push(name.clone());
                Arc::new(namespace(&snapshot, name, &routes, previous))
            }
        };
        namespaces.insert(name.clone(), made);
    }
    let unchanged = same(Kind::Service) && same(Kind::ExternalService);
    let given = if unchanged { previous.given.clone() } else { places::given(&namespaces, &external).into() };
    let stay = unchanged
        && namespaces.len() == previous.namespaces.len()
        && changed.iter().all(|name| places::stay(namespaces.get(name), previous.namespaces.get(name)));
    let places = if stay { previous.places.clone() } else { places::all(&namespaces, &external, &given).into() };
    World { mesh: mesh(&snapshot), namespaces, routes, settings, places, given, external, snapshot }
}

fn mesh(snapshot: &Snapshot) -> Arc<Mesh> {
    let found = snapshot.entries(Kind::Mesh, None).find_map(|(_, stored)| match &*stored.document {
        Document::Mesh(o) => Some(Arc::new(o.spec.clone())),
        _ => None,
    });
    found.unwrap_or_default()
}

fn external(snapshot: &Snapshot) -> External {
    let mut all: Vec<_> = snapshot
        .entries(Kind::ExternalService, None)
        .filter_map(|(key, stored)| match &*stored.document {
            Document::ExternalService(o) => Some(item(key, stored, &o.spec, None)),
            _ => None,
        })
        .collect();
    all.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
    External::new(&all)
}

fn routes(snapshot: &Snapshot, previous: &Routes) -> Routes {
    let mut routes = Routes::default();
    for (key, stored) in [Kind::HttpRoute, Kind::GrpcRoute].into_iter().flat_map(|kind| snapshot.entries(kind, None)) {
        if let Document::HttpRoute(o) | Document::GrpcRoute(o) = &*stored.document {
            routes.all.insert(key.clone(), item(key, stored, &o.spec, previous.all.get(key)));
        }
    }
    routes.of_service = attached(&routes.all);
    routes
}

/// A namespace, with the parts of the one before that are as they were.
fn namespace(snapshot: &Snapshot, name: &Arc<str>, routes: &Routes, previous: &World) -> Namespace {
    let entries = |kind| snapshot.entries(kind, Some(name));
    let old = previous.namespaces.get(name);
    let mut made = Namespace::default();
    let mut workloads: Vec<Arc<Item<Workload>>> = Vec::new();
    for (key, stored) in entries(Kind::Workload) {
        if let Document::Workload(o) = &*stored.document {
            let old = old.and_then(|n| n.workloads.get(&key.name)).map(|e| &e.item);
            workloads.push(item(key, stored, &o.spec, old));
        }
    }
    let mut labels = Labels::default();
    workloads.iter().for_each(|workload| labels.add(workload));
    // The services of each workload, by its name; filled service by service, so they come in order.
    let mut services_of: BTreeMap<Arc<str>, Vec<Arc<Item<Service>>>> = BTreeMap::new();
    for (key, stored) in entries(Kind::Service) {
        let Document::Service(o) = &*stored.document else { continue };
        let old = old.and_then(|n| n.services.get(&key.name)).map(|e| &e.item);
        let item = item(key, stored, &o.spec, old);
        let behind = labels.behind(&item);
        for workload in &behind {
            services_of.entry(workload.name().clone()).or_default().push(item.clone());
        }
        let routes = routes.of_service.get(&**key).cloned().unwrap_or_default();
        let near = Near::of(&item, &behind);
        let entry = kept_service(ServiceEntry { item, workloads: behind, routes, near }, previous);
        made.services.insert(key.name.clone(), entry);
    }
    for item in &workloads {
        let services = services_of.remove(item.name()).unwrap_or_default();
        let entry = kept_workload(WorkloadEntry { item: item.clone(), services }, previous);
        made.workloads.insert(item.name().clone(), entry);
    }
    for (key, stored) in entries(Kind::AuthorizationPolicy) {
        let Document::AuthorizationPolicy(o) = &*stored.document else { continue };
        let old = old.and_then(|n| {
            let at = n.authorizations.binary_search_by(|a| a.name().cmp(&key.name)).ok()?;
            n.authorizations.get(at)
        });
        made.authorizations.push(item(key, stored, &o.spec, old));
    }
    made
}

/// The item of the world before, if it is of the very same write; otherwise a new one.
fn item<S: Clone>(key: &Key, stored: &Arc<Stored>, spec: &S, old: Option<&Arc<Item<S>>>) -> Arc<Item<S>> {
    match old {
        Some(old) if Arc::ptr_eq(&old.stored, stored) => old.clone(),
        _ => Arc::new(Item { key: key.clone(), stored: stored.clone(), spec: spec.clone() }),
    }
}

/// The routes of each service, oldest first.
fn attached(routes: &BTreeMap<Arc<Key>, Arc<Item<RouteSpec>>>) -> BTreeMap<Key, Vec<Arc<Item<RouteSpec>>>> {
    let mut attached: BTreeMap<Key, Vec<Arc<Item<RouteSpec>>>> = BTreeMap::new();
    for route in routes.values() {
        for parent in &route.parents {
            let of =
                attached.entry(Key::new(Kind::Service, &parent.service.namespace, &parent.service.name)).or_default();
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
fn settings(snapshot: &Snapshot) -> BTreeMap<Key, Arc<Settings>> {
    let read = snapshot.entries(Kind::TrafficPolicy, None).filter_map(|(key, stored)| match &*stored.document {
        Document::TrafficPolicy(o) => Some(item(key, stored, &o.spec, None)),
        _ => None,
    });
    let mut policies: Vec<Arc<Item<TrafficPolicy>>> = read.collect();
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
