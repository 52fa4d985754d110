//! Routes: what becomes of a request to a service's port.
//!
//! A service to which no route is attached forwards everything to itself. As soon as one is, only what matches is
//! forwarded, and the rest is answered 404, as the Gateway API has it (GEP-1426).

use super::{
    Node, alias, external,
    name::{self, Target},
    order, passthrough, resource_name,
    settings::{self, Effective},
};
use crate::index::{Item, World};
use http::StatusCode;
use std::{sync::Arc, time::Duration};
use weir_config::{
    model::{
        Action, Domain, Forward, HeaderMutations, ResourceName, RetryPolicy, Route, RouteConfig, RouteMatch,
        VirtualHost, WeightedCluster,
    },
    resources::{AppProtocol, BackendRef, RouteRule, RouteSpec, Switch},
};

/// The routes of a service's port (`<fqdn>:<port>`), of one instance behind it (`<workload>@<fqdn>:<port>`), or of what is
/// not of the mesh.
pub fn route(world: &World, _node: &Node, resource: &str) -> Option<RouteConfig> {
    if let Some(routes) = passthrough::routes(resource) {
        return Some(routes);
    }
    let (workload, service) = name::pinned(resource);
    let Some(target) = name::resource(world, service) else {
        return alias::routes(world, resource).or_else(|| external::routes(world, resource));
    };
    let routes = match (workload, attached(&target).as_slice()) {
        // Who calls an instance means that one: the service's routes would lead elsewhere.
        (Some(_), _) | (None, []) => vec![to_itself(world, &target, resource)],
        (None, attached) => ordered(world, &target, attached),
    };
    let name = format!("{}.{}:{}", target.service.name(), target.service.namespace(), target.port.port);
    let virtual_host = VirtualHost { name: name.into(), domains: vec![Domain::Any], routes };
    Some(RouteConfig { name: resource.into(), virtual_hosts: vec![virtual_host] })
}

/// The routes of this port, oldest first.
fn attached<'a>(target: &Target<'a>) -> Vec<&'a Arc<Item<RouteSpec>>> {
    if target.port.protocol == AppProtocol::Tcp {
        return Vec::new();
    }
    let service = target.service;
    let (namespace, name, port) = (service.namespace(), service.name(), target.port.port);
    let here = |route: &Item<RouteSpec>| {
        route.parents.iter().any(|parent| {
            parent.service.namespace == *namespace
                && parent.service.name == *name
                && parent.port.is_none_or(|wanted| wanted == port)
        })
    };
    service.routes.iter().filter(|route| here(route)).collect()
}

fn ordered(world: &World, target: &Target<'_>, attached: &[&Arc<Item<RouteSpec>>]) -> Vec<Route> {
    let mut routes = Vec::new();
    for route in attached {
        let policy = settings::effective(world, &[&route.key, &target.service.key]);
        for rule in &route.rules {
            let made = ruled(world, target, route, rule, &policy);
            routes.extend(rule.matches.iter().map(|matches| Route { matches: matches.clone(), ..made.clone() }));
        }
    }
    // Stable: equals stay in the order of age, name and rule.
    routes.sort_by_cached_key(|route| order::specificity(&route.matches));
    routes
}

/// What a rule does, whatever it matches.
fn ruled(world: &World, target: &Target<'_>, route: &Item<RouteSpec>, rule: &RouteRule, policy: &Effective) -> Route {
    let action = match &rule.filters.redirect {
        Some(redirect) => Action::Redirect(redirect.clone()),
        None => match clusters(world, target, &rule.backends) {
            Some(clusters) => Action::Forward(forward(rule, clusters, policy)),
            None => Action::Respond {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                body: format!("no backend of the route {}/{} exists\n", route.namespace(), route.name()),
            },
        },
    };
    Route {
        name: format!("{}/{}/{}", route.namespace(), route.name(), rule.name).into(),
        matches: RouteMatch::default(),
        action,
        request_headers: rule.filters.request_headers.clone(),
        response_headers: rule.filters.response_headers.clone(),
        fault: policy.fault.clone(),
    }
}

/// The backends and their shares; `None`: none of those that have a share exists (the Gateway API asks for a 500 then).
/// The share of a single one that is missing fails by itself, as it should.
fn clusters(world: &World, target: &Target<'_>, backends: &[BackendRef]) -> Option<Vec<WeightedCluster>> {
    if backends.is_empty() {
        return Some(vec![all_to(target.resource(world))]);
    }
    // An ExternalName is no backend (Gateway API): it would reach into namespaces that have not agreed.
    let exists = |b: &BackendRef| {
        let service = world.service(&b.service.namespace, &b.service.name);
        service.is_some_and(|s| !s.is_alias() && s.port(b.port).is_some())
    };
    backends.iter().any(|b| b.weight > 0 && exists(b)).then(|| {
        let one = |b: &BackendRef| WeightedCluster {
            name: resource_name(world, &b.service.namespace, &b.service.name, b.port),
            weight: b.weight,
            request_headers: b.request_headers.clone(),
            response_headers: b.response_headers.clone(),
        };
        backends.iter().map(one).collect()
    })
}

fn forward(rule: &RouteRule, clusters: Vec<WeightedCluster>, policy: &Effective) -> Forward {
    let request_timeout = said(rule.request_timeout.as_ref(), policy.request_timeout);
    let retry = said(rule.retry.as_ref(), policy.retry.clone());
    let (timeout, retry) = limit_tries(rule.backend_timeout, request_timeout, retry);
    Forward {
        clusters,
        path: rule.filters.path.clone(),
        host: rule.filters.host.clone(),
        timeout,
        idle_timeout: policy.idle_timeout,
        retry,
        cap_grpc_timeout: true,
    }
}

/// What the rule says, or else the policy.
fn said<T: Clone>(rule: Option<&Switch<T>>, policy: Option<T>) -> Option<T> {
    match rule {
        Some(switch) => switch.as_on().cloned(),
        None => policy,
    }
}

/// `timeouts.backendRequest` limits each try (GEP-1742). Without declared retries there is one try that counts, so it
/// limits the whole request.
fn limit_tries(
    per_try: Option<Switch<Duration>>,
    request: Option<Duration>,
    retry: Option<RetryPolicy>,
) -> (Option<Duration>, Option<RetryPolicy>) {
    match (per_try, retry) {
        (None, retry) => (request, retry),
        (Some(Switch::Off), retry) => (request, retry.map(|r| RetryPolicy { per_try_timeout: None, ..r })),
        (Some(Switch::On(limit)), Some(retry)) => {
            (request, Some(RetryPolicy { per_try_timeout: Some(limit), ..retry }))
        }
        (Some(Switch::On(limit)), None) => (Some(request.map_or(limit, |r| r.min(limit))), None),
    }
}

/// The route of a service to which none is attached, or of one of its instances.
fn to_itself(world: &World, target: &Target<'_>, cluster: &str) -> Route {
    let policy = settings::effective(world, &[&target.service.key]);
    let idle_timeout = match target.port.protocol {
        AppProtocol::Tcp => settings::bytes_idle(world, &target.service.key),
        _ => policy.idle_timeout,
    };
    everything(cluster, Effective { idle_timeout, ..policy })
}

/// Everything to one cluster.
fn everything(cluster: &str, policy: Effective) -> Route {
    Route {
        name: "default".into(),
        matches: RouteMatch::default(),
        action: Action::Forward(Forward {
            clusters: vec![all_to(cluster.into())],
            path: None,
            host: None,
            timeout: policy.request_timeout,
            idle_timeout: policy.idle_timeout,
            retry: policy.retry,
            cap_grpc_timeout: true,
        }),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        fault: policy.fault,
    }
}

/// The routes of a host outside: everything to it, with the `Host` that the caller wrote.
pub(super) fn outside(resource: &str, policy: Effective) -> RouteConfig {
    let routes = vec![everything(resource, policy)];
    let host = VirtualHost { name: resource.into(), domains: vec![Domain::Any], routes };
    RouteConfig { name: resource.into(), virtual_hosts: vec![host] }
}

fn all_to(name: ResourceName) -> WeightedCluster {
    WeightedCluster {
        name,
        weight: 1,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    }
}
