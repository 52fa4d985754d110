//! `weir.dev/v1alpha1 TrafficPolicy`: how a Service is called, a route's requests are treated, or (for faults on
//! purpose) what one Workload does to what arrives. Attached by `targetRefs` as GEP-713 has it.

use super::{Key, Kind, Settings};
use serde::Serialize;
use std::sync::Arc;

/// A TrafficPolicy's `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// What it is about, at least one.
    pub targets: Vec<TargetRef>,
    /// What it says.
    #[serde(flatten)]
    pub settings: Settings,
}

/// A target, in the policy's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TargetRef {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
}

impl TargetRef {
    /// The document it names, from a policy in this namespace.
    pub fn key(&self, namespace: &str) -> Key {
        Key::new(self.kind, namespace, &self.name)
    }
}
