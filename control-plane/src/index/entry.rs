//! The parts of a world: a document's meaning with its name, and what belongs to a service, a workload, a namespace.

use super::Near;
use crate::store::Stored;
use std::{collections::BTreeMap, ops::Deref, sync::Arc};
use weir_config::resources::{AuthorizationPolicy, ExternalService, Key, RouteSpec, Service, Workload};

/// What a document says. Reads like its `spec`.
#[derive(Debug)]
pub struct Item<S> {
    /// What names it.
    pub key: Key,
    /// The document, and what the store knows of it.
    pub stored: Arc<Stored>,
    /// Its meaning.
    pub spec: S,
}

impl<S> Item<S> {
    /// Its namespace.
    pub fn namespace(&self) -> &Arc<str> {
        &self.key.namespace
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.key.name
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.stored.document.metadata().labels
    }

    /// Where it stands among documents of which the oldest counts first, then the first by name (Gateway API).
    pub fn seniority(&self) -> impl Ord + '_ {
        (self.stored.created, &self.key.namespace, &self.key.name)
    }
}

impl<S> Deref for Item<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.spec
    }
}

/// What is in a namespace.
#[derive(Debug, Default)]
pub struct Namespace {
    /// Its services, by name.
    pub services: BTreeMap<Arc<str>, Arc<ServiceEntry>>,
    /// Its workloads, by name.
    pub workloads: BTreeMap<Arc<str>, Arc<WorkloadEntry>>,
    /// Its AuthorizationPolicies, by name.
    pub authorizations: Vec<Arc<Item<AuthorizationPolicy>>>,
}

/// A service, and what belongs to it.
#[derive(Debug)]
pub struct ServiceEntry {
    /// The service.
    pub item: Arc<Item<Service>>,
    /// The workloads behind it, by name.
    pub workloads: Vec<Arc<Item<Workload>>>,
    /// The routes attached to one of its ports or to all, of every namespace, oldest first.
    pub routes: Vec<Arc<Item<RouteSpec>>>,
    /// How its requests are kept near their callers, if they are.
    pub near: Option<Box<Near>>,
}

impl Deref for ServiceEntry {
    type Target = Item<Service>;
    fn deref(&self) -> &Item<Service> {
        &self.item
    }
}

/// A workload, and what belongs to it.
#[derive(Debug)]
pub struct WorkloadEntry {
    /// The workload.
    pub item: Arc<Item<Workload>>,
    /// The services of its namespace that it stands behind, by name.
    pub services: Vec<Arc<Item<Service>>>,
}

impl Deref for WorkloadEntry {
    type Target = Item<Workload>;
    fn deref(&self) -> &Item<Workload> {
        &self.item
    }
}

/// All routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By their keys.
    pub(super) all: BTreeMap<Arc<Key>, Arc<Item<RouteSpec>>>,
    /// Those of each service, oldest first.
    pub(super) of_service: BTreeMap<Key, Vec<Arc<Item<RouteSpec>>>>,
}

/// What is reached under an address.
#[derive(Debug, Clone)]
pub enum Addressed<'a> {
    /// A service, under one of its cluster addresses.
    Service(&'a Arc<ServiceEntry>),
    /// Instances, each on ports of its own, by name.
    Workloads(Vec<&'a Arc<WorkloadEntry>>),
    /// A host outside the mesh, by its name, on ports of which only the address tells it.
    External(&'a Arc<str>, &'a Arc<Item<ExternalService>>),
}
