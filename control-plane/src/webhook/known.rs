//! The namespaces as far as they are known, and where they are asked for when that may be too old.

use crate::inject::{INJECT, Namespace};
use futures::future::BoxFuture;
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Where namespaces are known.
pub trait Namespaces: Send + Sync {
    /// As it was last heard of.
    fn known(&self, name: &str) -> Option<Namespace>;

    /// As it is now; asks for it.
    ///
    /// # Errors
    /// It cannot be asked for.
    fn fresh<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Namespace, String>>;
}

/// What was heard.
#[derive(Debug, Default, Clone)]
pub struct Known {
    all: Arc<RwLock<BTreeMap<String, Namespace>>>,
}

impl Known {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<Namespace> {
        self.all.read().get(name).cloned()
    }

    /// Those that ask for sidecars.
    pub fn enabled(&self) -> BTreeSet<String> {
        let all = self.all.read();
        all.values().filter(|namespace| is_enabled(namespace)).map(|namespace| namespace.name.clone()).collect()
    }

    pub(super) fn put(&self, namespace: Namespace) {
        self.all.write().insert(namespace.name.clone(), namespace);
    }

    pub(super) fn remove(&self, name: &str) {
        self.all.write().remove(name);
    }

    /// Those that are not among these are gone.
    pub(super) fn keep(&self, names: &BTreeSet<String>) {
        self.all.write().retain(|name, _| names.contains(name));
    }
}

pub(super) fn is_enabled(namespace: &Namespace) -> bool {
    namespace.labels.get(INJECT).is_some_and(|value| value == "enabled")
}
