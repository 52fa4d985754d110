//! The instances of a cluster (Envoy `ClusterLoadAssignment`).

use serde::Serialize;
use std::{net::SocketAddr, sync::Arc};

/// What the resources are called that say which addresses a name means (`dns/web.demo`): endpoints of which only the
/// addresses matter. No cluster is called so, and no authority.
pub const NAME: &str = "dns/";

/// All instances of a cluster, by locality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// The resource name; the cluster's, unless it names another.
    pub name: Arc<str>,
    /// Priorities start at 0 and have no gap.
    pub localities: Vec<Locality>,
}

/// Instances in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Locality {
    /// May be empty.
    pub region: String,
    /// May be empty.
    pub zone: String,
    /// 0 is used first.
    pub priority: u32,
    /// Share of its priority's traffic, at least 1.
    pub weight: u32,
    /// The instances; an address occurs once in a cluster.
    pub endpoints: Vec<Endpoint>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Where it (its sidecar, in the mesh) listens.
    pub address: SocketAddr,
    /// Its share, at least 1.
    pub weight: u32,
    /// What its control plane says of it.
    pub health: Health,
    /// For people: `<namespace>/<workload>`; may be empty. Travels as Envoy's `hostname`.
    pub workload: Arc<str>,
    /// Whether this endpoint speaks mutual TLS (has a sidecar), where its cluster does.
    pub mesh: bool,
}

/// What the control plane says of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Takes requests.
    Healthy,
    /// Finishes what it has, gets nothing new.
    Draining,
    /// Gets nothing.
    Unhealthy,
}
