//! Routes ⇄ Envoy's `RouteConfiguration`, `VirtualHost`, `Route`. What a route does is in `action`.
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    Class, action, fault, headers, limits, matcher,
    wire::{At, Report, ignored, pack, pb, unsupported},
};
use crate::model::{Domain, Route, RouteConfig, VirtualHost};
use envoy_types::pb::google::protobuf::Any;
use std::collections::{BTreeSet, HashMap};

/// A route configuration for a class of client.
pub(super) fn config(config: &RouteConfig, class: Class) -> pb::route::RouteConfiguration {
    pb::route::RouteConfiguration {
        name: config.name.to_string(),
        virtual_hosts: config.virtual_hosts.iter().map(|h| virtual_host(h, class)).collect(),
        ..Default::default()
    }
}

fn virtual_host(host: &VirtualHost, class: Class) -> pb::route::VirtualHost {
    let domain = |d: &Domain| match d {
        Domain::Exact(s) => s.clone(),
        Domain::Suffix(s) => format!("*{s}"),
        Domain::Prefix(s) => format!("{s}*"),
        Domain::Any => "*".into(),
    };
    pb::route::VirtualHost {
        name: host.name.to_string(),
        domains: host.domains.iter().map(domain).collect(),
        routes: host.routes.iter().map(|r| route(r, class)).collect(),
        ..Default::default()
    }
}

fn route(route: &Route, class: Class) -> pb::route::Route {
    let (request_headers_to_add, request_headers_to_remove) = headers::mutations(&route.request_headers);
    let (response_headers_to_add, response_headers_to_remove) = headers::mutations(&route.response_headers);
    let per_filter = route.fault.iter().map(|f| (fault::FILTER.to_owned(), pack(&fault::fault(f))));
    pb::route::Route {
        name: route.name.to_string(),
        r#match: Some(matcher::route(&route.matches, class)),
        action: Some(action::action(&route.action, &route.matches.path, class)),
        typed_per_filter_config: per_filter.collect(),
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        ..Default::default()
    }
}

/// Reads a route configuration.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: pb::route::RouteConfiguration) -> Option<RouteConfig> {
    let pb::route::RouteConfiguration {
        name,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins: _,
        validate_clusters,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = sent;
    unsupported!(out, at; vhds, internal_only_headers, response_headers_to_add, response_headers_to_remove,
        request_headers_to_add, request_headers_to_remove, request_mirror_policies, ignore_port_in_host_matching,
        vhost_header, ignore_path_parameters_in_path_matching, typed_per_filter_config, route_specifiers,
        cluster_specifier_plugins);
    ignored!(out, at; validate_clusters, max_direct_response_body_size_bytes, metadata);
    let routes = virtual_hosts.iter().map(|h| h.routes.len()).sum::<usize>();
    if routes > limits::ROUTES {
        out.refuse(at, format!("has {routes} routes; the limit is {}", limits::ROUTES));
        return None;
    }
    if !out.within(at, "virtual_hosts", &virtual_hosts, limits::VIRTUAL_HOSTS) {
        return None;
    }
    let mut taken = BTreeSet::new();
    let hosts = virtual_hosts.into_iter().enumerate();
    let virtual_hosts =
        hosts.filter_map(|(i, h)| read_host(out, &at.item("virtual_hosts", i), h, &mut taken)).collect();
    Some(RouteConfig { name: out.name(&at.field("name"), name)?, virtual_hosts })
}

fn read_host(
    out: &mut Report,
    at: &At<'_>,
    sent: pb::route::VirtualHost,
    taken: &mut BTreeSet<Domain>,
) -> Option<VirtualHost> {
    let pb::route::VirtualHost {
        name,
        domains: sent_domains,
        routes,
        matcher,
        require_tls,
        virtual_clusters,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata,
        route_specifiers,
    } = sent;
    unsupported!(out, at; matcher, require_tls, rate_limits, request_headers_to_add, request_headers_to_remove,
        response_headers_to_add, response_headers_to_remove, cors, typed_per_filter_config, retry_policy,
        retry_policy_typed_config, hedge_policy, request_mirror_policies, route_specifiers);
    ignored!(out, at; virtual_clusters, include_request_attempt_count, include_attempt_count_in_response,
        include_is_timeout_retry_header, per_request_buffer_limit_bytes, request_body_buffer_limit, metadata);
    if !out.within(at, "domains", &sent_domains, limits::DOMAINS) {
        return None;
    }
    if sent_domains.is_empty() {
        out.refuse(&at.field("domains"), "is required");
    }
    let mut domains = vec![];
    for (i, text) in sent_domains.into_iter().enumerate() {
        let at = at.item("domains", i);
        let Some(domain) = read_domain(out, &at, text) else { continue };
        if !taken.insert(domain.clone()) {
            out.refuse(&at, "occurs twice in this route configuration");
        }
        domains.push(domain);
    }
    let routes = routes.into_iter().enumerate();
    let routes = routes.filter_map(|(i, r)| read_route(out, &at.item("routes", i), r)).collect();
    Some(VirtualHost { name: out.text(&at.field("name"), name)?.into(), domains, routes })
}

fn read_domain(out: &mut Report, at: &At<'_>, text: String) -> Option<Domain> {
    let text = out.text(at, text)?.to_ascii_lowercase();
    let plain = |s: &str| !s.is_empty() && !s.contains('*') && s.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    let domain = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => Some(Domain::Any),
        (Some(rest), None) if plain(rest) && rest.starts_with('.') => Some(Domain::Suffix(rest.to_owned())),
        (None, Some(rest)) if plain(rest) && rest.ends_with('.') => Some(Domain::Prefix(rest.to_owned())),
        (None, None) if plain(&text) => Some(Domain::Exact(text)),
        _ => None,
    };
    if domain.is_none() {
        out.refuse(at, "is not a host, `*.suffix`, `prefix.*` or `*`");
    }
    domain
}

fn read_route(out: &mut Report, at: &At<'_>, sent: pb::route::Route) -> Option<Route> {
    let pb::route::Route {
        name,
        r#match,
        metadata,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix,
        request_body_buffer_limit,
        route_specifiers,
        action: sent_action,
    } = sent;
    unsupported!(out, at; route_specifiers);
    ignored!(out, at; metadata, decorator, tracing, stat_prefix, per_request_buffer_limit_bytes,
        request_body_buffer_limit);
    let fault = read_per_filter(out, &at.field("typed_per_filter_config"), &typed_per_filter_config);
    let request_headers = headers::read(
        out,
        at,
        ("request_headers_to_add", request_headers_to_add),
        ("request_headers_to_remove", request_headers_to_remove),
    );
    let response_headers = headers::read(
        out,
        at,
        ("response_headers_to_add", response_headers_to_add),
        ("response_headers_to_remove", response_headers_to_remove),
    );
    let matches = match r#match {
        Some(m) => matcher::read_route(out, &at.field("match"), m),
        None => {
            out.refuse(&at.field("match"), "is required");
            None
        }
    };
    let action = action::read(out, at, sent_action);
    let name = out.text(&at.field("name"), name)?.into();
    Some(Route { name, matches: matches?, action: action?, request_headers, response_headers, fault })
}

fn read_per_filter(out: &mut Report, at: &At<'_>, sent: &HashMap<String, Any>) -> Option<crate::model::Fault> {
    let mut found = None;
    for (name, any) in sent {
        if name == fault::FILTER {
            found = fault::read(out, &at.field(name), any);
        } else {
            out.refuse(&at.field(name), "is not supported");
        }
    }
    found
}
