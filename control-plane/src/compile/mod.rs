//! From a world to what one sidecar is told: pure functions, one resource by its name at a time, so that the work follows
//! what sidecars ask for and not the size of the mesh.
//!
//! The same world and node always give the same model, in the same order: versions on the wire are hashes of content.
//! What a resource depends on besides the world is its [`Scope`]; most are the same for every node.

mod alias;
mod answer;
mod authz;
mod chains;
mod cluster;
mod endpoints;
mod external;
mod inbound;
mod listener;
mod name;
mod order;
mod passthrough;
mod route;
mod settings;
mod speech;

#[cfg(test)]
mod tests;

pub use cluster::cluster;
pub use endpoints::{endpoints, without};
pub use listener::listener;
pub use name::{fqdn, resource_name, server_name};
pub use route::route;

use crate::index::World;
use std::sync::Arc;
use weir_config::model::{Kind, NAME, ResourceName};

/// For whom resources are made: a node that has proven to be this workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Its namespace: what short names are relative to.
    pub namespace: Arc<str>,
    /// Its workload's name.
    pub workload: Arc<str>,
    /// What kind of client it is.
    pub class: Class,
}

/// The kinds of client, which need the same resources written differently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Our own sidecar.
    #[default]
    Sidecar,
    /// Envoy.
    Envoy,
    /// A proxyless gRPC client (gRFC A27). It takes no `STATIC` clusters, so it has no inbound side here.
    Grpc,
}

/// What a resource depends on besides the world: resources of one scope may be made once and sent to many.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The same for all nodes.
    Mesh,
    /// The same for all nodes of a namespace.
    Namespace,
    /// The same for all nodes at a place: their zone and node, as far as these matter.
    Place(Arc<str>),
    /// One node's own.
    Node,
}

/// The scope of a resource for a node.
pub fn scope(world: &World, node: &Node, kind: Kind, resource: &str) -> Scope {
    match kind {
        _ if name::is_inbound(resource) => Scope::Node,
        // Short names are relative to the caller's namespace.
        Kind::Listener => Scope::Namespace,
        Kind::Endpoints if resource.starts_with(NAME) => Scope::Namespace,
        Kind::Endpoints => endpoints::place(world, node, resource).map_or(Scope::Mesh, Scope::Place),
        Kind::Secret | Kind::Cluster | Kind::Route => Scope::Mesh,
    }
}

/// The names of all resources of a kind that a node can see, sorted: for subscribers that ask for everything, as Envoy
/// does. Listeners by authority are not among them (an API listener serves nothing there, and short names have no end).
pub fn names(world: &World, node: &Node, kind: Kind) -> Vec<ResourceName> {
    let mut names = match kind {
        Kind::Secret => vec!["ROOTCA".into()],
        Kind::Listener => inbound::listener_name(world, node).into_iter().collect(),
        Kind::Endpoints | Kind::Route => services(world),
        Kind::Cluster => {
            let mut names = services(world);
            names.extend(inbound::cluster_names(world, node));
            names
        }
    };
    names.sort_unstable();
    names
}

fn services(world: &World) -> Vec<ResourceName> {
    let of = |s: &Arc<crate::index::ServiceEntry>| -> Vec<ResourceName> {
        s.ports.iter().map(|p| resource_name(world, s.namespace(), s.name(), p.port)).collect()
    };
    world.services().filter(|s| !s.is_alias()).flat_map(of).collect()
}
