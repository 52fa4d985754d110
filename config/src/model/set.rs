//! All resources of one node by kind and name, and the trust bundle.

use super::{Cluster, Endpoints, Listener, RouteConfig, TrustDomain};
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, fmt::Display, sync::Arc};

/// A resource's name.
pub type ResourceName = Arc<str>;

/// The kinds of resource, in the order in which they are made (make before break): bundles, clusters, endpoints,
/// listeners, routes; they are taken away in the opposite order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Trust bundles (Envoy `Secret` with a `validation_context`).
    Secret,
    /// [`Cluster`]
    Cluster,
    /// [`Endpoints`]
    Endpoints,
    /// [`Listener`]
    Listener,
    /// [`RouteConfig`]
    Route,
}

impl Kind {
    /// All, in the order in which they are made.
    pub const ALL: [Self; 5] = [Self::Secret, Self::Cluster, Self::Endpoints, Self::Listener, Self::Route];

    /// A short word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Listener => "listener",
            Self::Route => "route",
        }
    }
}

/// The roots that vouch for identities of a trust domain. Several while a root is being rotated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustBundle {
    /// The resource name, `ROOTCA` for the mesh's own.
    pub name: ResourceName,
    /// Whose identities.
    pub trust_domain: TrustDomain,
    /// DER certificates, at least one, at most 16.
    #[serde(serialize_with = "count")]
    pub roots: Vec<Vec<u8>>,
}

/// All resources a node holds. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Trust bundles by name.
    pub bundles: BTreeMap<ResourceName, Arc<TrustBundle>>,
    /// Clusters by name.
    pub clusters: BTreeMap<ResourceName, Arc<Cluster>>,
    /// Endpoints by name.
    pub endpoints: BTreeMap<ResourceName, Arc<Endpoints>>,
    /// Listeners by name.
    pub listeners: BTreeMap<ResourceName, Arc<Listener>>,
    /// Routes by name.
    pub routes: BTreeMap<ResourceName, Arc<RouteConfig>>,
}

pub(super) fn display<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

pub(super) fn display_option<T: Display, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(v) => s.collect_str(v),
        None => s.serialize_none(),
    }
}

pub(super) fn header_value<S: Serializer>(value: &http::HeaderValue, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&String::from_utf8_lossy(value.as_bytes()))
}

pub(super) fn status<S: Serializer>(value: &http::StatusCode, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u16(value.as_u16())
}

fn count<S: Serializer>(value: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(value.len() as u64)
}
