//! What is done with captured connections to addresses that nothing in the mesh has: they are carried there as bytes,
//! unless the mesh's `outboundTrafficPolicy` says that they are not. (The cluster has Istio's name.)

use super::settings;
use crate::index::World;
use weir_config::{
    model::{
        Action, BLACK_HOLE, Cluster, Discovery, Domain, Forward, HeaderMutations, INBOUND_PASSTHROUGH, LoadBalancing,
        PASSTHROUGH, Protocol, ResourceName, Route, RouteConfig, RouteMatch, VirtualHost, WeightedCluster,
    },
    resources::OutboundMode,
};

/// What its cluster and its routes are called.
const NAME: &str = PASSTHROUGH;

/// The name of its routes; `None`: such connections are refused.
pub(super) fn name(world: &World) -> Option<ResourceName> {
    (world.mesh().outbound == OutboundMode::AllowAny).then(|| NAME.into())
}

/// Its cluster, if that is what is asked for.
pub(super) fn cluster(resource: &str) -> Option<Cluster> {
    let policy = settings::built_in();
    let name = [NAME, INBOUND_PASSTHROUGH].into_iter().find(|name| *name == resource)?;
    Some(Cluster {
        name: name.into(),
        discovery: Discovery::OriginalDestination,
        connect_timeout: settings::LONG_CONNECT,
        load_balancing: LoadBalancing::RoundRobin,
        protocol: Protocol::Tcp,
        tls: None,
        limits: policy.limits,
        outlier: None,
        retry_budget: policy.retry_budget,
        panic_threshold_percent: 0,
        idle_timeout: None,
        max_connection_age: None,
    })
}

/// Routes for connections that lead nowhere unless a name in them leads somewhere.
pub(super) fn nowhere() -> RouteConfig {
    let route = Route {
        name: "nowhere".into(),
        matches: RouteMatch::default(),
        action: Action::Respond { status: http::StatusCode::BAD_GATEWAY, body: String::new() },
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        fault: None,
    };
    let host = VirtualHost { name: BLACK_HOLE.into(), domains: vec![Domain::Any], routes: vec![route] };
    RouteConfig { name: BLACK_HOLE.into(), virtual_hosts: vec![host] }
}

/// Its routes, if that is what is asked for.
pub(super) fn routes(resource: &str) -> Option<RouteConfig> {
    let cluster = WeightedCluster {
        name: NAME.into(),
        weight: 1,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    };
    let route = Route {
        name: "passthrough".into(),
        matches: RouteMatch::default(),
        action: Action::Forward(Forward {
            clusters: vec![cluster],
            path: None,
            host: None,
            timeout: None,
            // What the world outside does with idle connections is its own affair.
            idle_timeout: Some(settings::ABANDONED),
            retry: None,
            cap_grpc_timeout: true,
        }),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        fault: None,
    };
    let host = VirtualHost { name: NAME.into(), domains: vec![Domain::Any], routes: vec![route] };
    (resource == NAME).then(|| RouteConfig { name: NAME.into(), virtual_hosts: vec![host] })
}
