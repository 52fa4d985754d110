//! Listeners: what an authority means to the application that says it.

use super::{
    Node, alias, external, inbound,
    name::{self, Captured},
    passthrough,
};
use crate::index::World;
use weir_config::model::{ApiListener, HttpOptions, Listener, RouteSource};

/// The listener of an authority (`recommendations:8080`), of an address that a connection was captured on the way to
/// (`10.96.0.7_8080`), or a node's own inbound listener (`inbound/<namespace>/<workload>`). `None`: there is no such
/// service, no such port of it, or nothing that may be called at that address.
pub fn listener(world: &World, node: &Node, resource: &str) -> Option<Listener> {
    if resource.contains('/') {
        return inbound::listener(world, node, resource).map(Listener::Inbound);
    }
    let mut by_name = false;
    let routes = match name::captured(world, resource) {
        Some(Captured::Service(target)) => RouteSource::Rds(target.resource(world)),
        Some(Captured::Instance(workload, target)) => RouteSource::Rds(name::instance(world, workload, &target)),
        Some(Captured::External(host)) => RouteSource::Rds(host.into()),
        Some(Captured::Unknown { by_name: named }) => {
            by_name = named;
            match passthrough::name(world) {
                Some(name) => RouteSource::Rds(name),
                None if by_name => RouteSource::Inline(passthrough::nowhere().into()),
                None => return None,
            }
        }
        Some(Captured::Nowhere) => return None,
        None => match name::authority(world, &node.namespace, resource) {
            Some(target) => RouteSource::Rds(target.resource(world)),
            None => RouteSource::Rds(
                alias::outside(world, &node.namespace, resource)
                    .or_else(|| external::find(world, resource).map(|_| resource.into()))?,
            ),
        },
    };
    Some(Listener::Api(ApiListener {
        name: resource.into(),
        routes,
        // Each route says its own idle timeout, so that one of them can say "none".
        http: HttpOptions { stream_idle_timeout: None, ..HttpOptions::default() },
        by_name,
    }))
}
