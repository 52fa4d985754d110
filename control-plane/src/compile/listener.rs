//! Listeners: what an authority means to the application that says it.

use super::{Node, inbound, name};
use crate::index::World;
use weir_config::model::{ApiListener, HttpOptions, Listener, RouteSource};

/// The listener of an authority (`recommendations:8080`), or a node's own inbound listener
/// (`inbound/<namespace>/<workload>`). `None`: there is no such service, or no such port of it.
pub fn listener(world: &World, node: &Node, resource: &str) -> Option<Listener> {
    if resource.contains('/') {
        return inbound::listener(world, node, resource).map(Listener::Inbound);
    }
    let target = name::authority(world, &node.namespace, resource)?;
    Some(Listener::Api(ApiListener {
        name: resource.into(),
        routes: RouteSource::Rds(target.resource(world)),
        // Each route says its own idle timeout, so that one of them can say "none".
        http: HttpOptions { stream_idle_timeout: None, ..HttpOptions::default() },
    }))
}
