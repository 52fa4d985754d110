//! What the documents of a version mean together: who stands behind which service, which routes and policies belong to
//! what. Built from a snapshot, immutable, and sharing with the world before it whatever did not change: an instance that
//! comes or goes costs what its namespace costs, however large the mesh is.

mod alias;
mod build;
mod entry;
mod external;
mod follow;
mod near;
mod places;
mod select;
mod virtual_ip;

#[cfg(test)]
mod tests;

pub use alias::Leads;
pub use entry::{Addressed, Item, Namespace, ServiceEntry, WorkloadEntry};
pub use external::External;
pub use follow::follow;
pub use near::{Caller, Near};
pub use virtual_ip::{Virtual, is_virtual};

use crate::store::Snapshot;
use entry::Routes;
use places::Place;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use weir_config::resources::{Key, Mesh, Settings};

/// All documents at a version, indexed.
#[derive(Debug, Default)]
pub struct World {
    snapshot: Arc<Snapshot>,
    mesh: Arc<Mesh>,
    namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    routes: Arc<Routes>,
    settings: Arc<BTreeMap<Key, Arc<Settings>>>,
    places: Arc<BTreeMap<IpAddr, Place>>,
    given: Arc<BTreeMap<Arc<str>, Virtual>>,
    external: Arc<External>,
}

impl World {
    /// The world of a snapshot. `previous` is only looked at for parts that can be shared.
    pub fn build(snapshot: Arc<Snapshot>, previous: &Self) -> Self {
        build::world(snapshot, previous)
    }

    /// The version of the store that this is.
    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// The documents themselves.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// What holds for the whole mesh; the built-in values where no `Mesh` is written.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// All namespaces that have something in them, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &Namespace)> {
        self.namespaces.iter().map(|(name, namespace)| (name, &**namespace))
    }

    /// A namespace.
    pub fn namespace(&self, namespace: &str) -> Option<&Namespace> {
        self.namespaces.get(namespace).map(|found| &**found)
    }

    /// A service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<ServiceEntry>> {
        self.namespaces.get(namespace)?.services.get(name)
    }

    /// What a service leads to: itself, or what it is another name of. `None`: to a service that is not there, or in a
    /// circle.
    pub fn leads<'a>(&'a self, service: &'a Arc<ServiceEntry>) -> Option<Leads<'a>> {
        alias::follow(self, service)
    }

    /// A workload.
    pub fn workload(&self, namespace: &str, name: &str) -> Option<&Arc<WorkloadEntry>> {
        self.namespaces.get(namespace)?.workloads.get(name)
    }

    /// What is reached under an address. (Many instances may be on one machine: loopback addresses mean nothing.)
    pub fn address(&self, address: IpAddr) -> Option<Addressed<'_>> {
        self.places.get(&address)?.of(self)
    }

    /// The addresses that a service has been given here, since it has none of its own.
    pub fn given(&self, service: &Key) -> Option<Virtual> {
        self.given.get(&*places::name_of(service)).copied()
    }

    /// The addresses that a host outside the mesh has been given here, since what is spoken on some of its ports does not
    /// say its name.
    pub fn given_to_host(&self, host: &str) -> Option<Virtual> {
        self.given.get(host).copied()
    }

    /// Hosts outside the mesh.
    pub fn external(&self) -> &External {
        &self.external
    }

    /// All services, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.namespaces.values().flat_map(|n| n.services.values())
    }

    /// All workloads, by namespace and name.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<WorkloadEntry>> {
        self.namespaces.values().flat_map(|n| n.workloads.values())
    }

    /// What the TrafficPolicies of a target say together, and nothing that is inherited. Where several policies of one
    /// target say different things, the oldest wins, then the first by name (GEP-713).
    pub fn settings(&self, target: &Key) -> Option<&Arc<Settings>> {
        self.settings.get(target)
    }
}
