//! Reads the `spec` of HTTPRoute and GRPCRoute, without what their matches and filters hold.

use super::{
    BackendRef, Filters, Key, Kind, ParentRef, RouteRule, RouteSpec, ServiceRef, Switch,
    node::{Node, Tree},
    read::{Fields, Reader},
    read_filter::{self, Place},
    read_match, read_policy, read_retry,
};
use crate::model::{PathMatch, PathRewrite, RouteMatch};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Http,
    Grpc,
}

pub(super) fn http(r: &mut Reader, node: &Node) -> Option<RouteSpec> {
    spec(r, node, Sort::Http)
}

pub(super) fn grpc(r: &mut Reader, node: &Node) -> Option<RouteSpec> {
    spec(r, node, Sort::Grpc)
}

fn spec(r: &mut Reader, node: &Node, sort: Sort) -> Option<RouteSpec> {
    let mut f = r.fields(node)?;
    let parents = f.required(r, "parentRefs", |r, n| {
        let parents = r.list(n, |r, n, _| parent(r, n))?;
        empty(r, n, "a route has at least one parent");
        Some(parents)
    });
    let hosts = "remove it: a route whose parent is a Service is for the names of that Service";
    f.unsupported(r, "hostnames", hosts);
    let rules = f.required(r, "rules", |r, n| {
        let rules = r.list(n, |r, n, i| rule(r, n, i, sort))?;
        empty(r, n, "a route has at least one rule");
        names(r, n, &rules);
        Some(rules)
    });
    f.close(r);
    Some(RouteSpec { parents: parents?, rules: rules? })
}

fn empty(r: &mut Reader, node: &Node, message: &str) {
    if matches!(&node.tree, Tree::List(items) if items.is_empty()) {
        r.issue(node, message, None);
    }
}

fn names(r: &mut Reader, node: &Node, rules: &[RouteRule]) {
    for (i, rule) in rules.iter().enumerate() {
        if rules[..i].iter().any(|other| other.name == rule.name) {
            r.issue(node, format!("two rules have the name `{}`", rule.name), Some("rename one of them".into()));
        }
    }
}

fn parent(r: &mut Reader, node: &Node) -> Option<ParentRef> {
    let mut f = r.fields(node)?;
    let kind = f.required(r, "kind", |r, n| match r.text(n)? {
        "Service" => Some(Kind::Service),
        _ => {
            r.issue(n, "the parent of a route is a Service", Some("write `kind: Service`".into()));
            None
        }
    });
    let own = r.namespace.clone();
    let namespace = f.optional(r, "namespace", |r, n| {
        let namespace = r.label(n)?;
        if namespace != own {
            let remedy = format!("put the route into the namespace `{namespace}`");
            r.issue(n, "a route is in the namespace of its parent", Some(remedy));
        }
        Some(namespace)
    });
    let (service, port) = service(r, &mut f, kind, namespace.unwrap_or(own));
    f.unsupported(r, "sectionName", "name a port of the Service with `port:`");
    f.close(r);
    let service = service?;
    r.refer(node, Key::new(Kind::Service, &service.namespace, &service.name), port);
    Some(ParentRef { service, port })
}

fn service(
    r: &mut Reader,
    f: &mut Fields<'_>,
    kind: Option<Kind>,
    namespace: String,
) -> (Option<ServiceRef>, Option<u16>) {
    let group = f.optional(r, "group", |r, n| r.text(n).map(|t| (n, t)));
    if let Some(kind) = kind {
        read_policy::check_group(r, group, kind);
    }
    let name = f.required(r, "name", Reader::label);
    let port = f.optional(r, "port", Reader::port);
    let service = name.map(|name| ServiceRef { namespace: namespace.into(), name: name.into() });
    (service, port)
}

fn rule(r: &mut Reader, node: &Node, index: usize, sort: Sort) -> Option<RouteRule> {
    let mut f = r.fields(node)?;
    let name = f.optional(r, "name", Reader::name).unwrap_or_else(|| index.to_string());
    let one = if sort == Sort::Http { read_match::http } else { read_match::grpc };
    let mut matches = f.optional(r, "matches", |r, n| r.list(n, |r, n, _| one(r, n))).unwrap_or_default();
    if matches.is_empty() {
        matches.push(RouteMatch { grpc: sort == Sort::Grpc, ..RouteMatch::default() });
    }
    let place = if sort == Sort::Http { Place::HttpRule } else { Place::GrpcRule };
    let filters = f.optional(r, "filters", |r, n| read_filter::filters(r, n, place)).unwrap_or_default();
    let backends = f.optional(r, "backendRefs", backends).unwrap_or_default();
    let (request_timeout, backend_timeout) = f.optional(r, "timeouts", timeouts).unwrap_or_default();
    let retry = f.optional(r, "retry", read_retry::route);
    f.unsupported(r, "sessionPersistence", "requests are balanced one by one");
    if filters.redirect.is_some()
        && let Some(n) = f.find("backendRefs")
    {
        let remedy = Some("keep the redirect or the backends".into());
        r.within("backendRefs", |r| r.issue(n, "a rule that redirects has no backends", remedy));
    }
    prefix(r, f.find("filters").unwrap_or(node), &matches, &filters);
    f.close(r);
    Some(RouteRule { name, matches, filters, backends, request_timeout, backend_timeout, retry })
}

/// Replacing the matched prefix asks for one.
fn prefix(r: &mut Reader, node: &Node, matches: &[RouteMatch], filters: &Filters) {
    let redirect = filters.redirect.as_ref().and_then(|d| d.path.as_ref());
    let replaces = [redirect, filters.path.as_ref()].into_iter().flatten().any(|p| matches!(p, PathRewrite::Prefix(_)));
    let is_prefix = |m: &RouteMatch| matches!(m.path, PathMatch::Prefix(_) | PathMatch::Segments(_));
    if replaces && !matches.iter().all(is_prefix) {
        let remedy = Some("give every match a path of type PathPrefix, or use ReplaceFullPath".into());
        r.within("filters", |r| r.issue(node, "ReplacePrefixMatch needs a matched prefix", remedy));
    }
}

fn backends(r: &mut Reader, node: &Node) -> Option<Vec<BackendRef>> {
    let backends = r.list(node, |r, n, _| backend(r, n))?;
    let whole = matches!(&node.tree, Tree::List(items) if items.len() == backends.len());
    if whole && !backends.is_empty() && backends.iter().all(|b| b.weight == 0) {
        let remedy = "give at least one backend a weight above 0; to refuse all requests use an AuthorizationPolicy";
        r.issue(node, "the weights sum to zero", Some(remedy.into()));
    }
    Some(backends)
}

fn backend(r: &mut Reader, node: &Node) -> Option<BackendRef> {
    let mut f = r.fields(node)?;
    let kind = f.optional(r, "kind", |r, n| match r.text(n)? {
        "Service" => Some(Kind::Service),
        _ => {
            r.issue(n, "a backend is a Service", Some("write `kind: Service`, or leave it out".into()));
            None
        }
    });
    let own = r.namespace.clone();
    let namespace = f.optional(r, "namespace", Reader::label).unwrap_or(own);
    let (service, port) = service(r, &mut f, kind.or(Some(Kind::Service)), namespace);
    if f.find("port").is_none() {
        r.within("port", |r| r.issue(node, "this field is required", Some("add `port:`".into())));
    }
    let weight = f.optional(r, "weight", |r, n| r.small(n, 0, 1_000_000)).unwrap_or(1);
    let filters = f.optional(r, "filters", |r, n| read_filter::filters(r, n, Place::Backend)).unwrap_or_default();
    f.close(r);
    let (service, port) = (service?, port?);
    r.refer(node, Key::new(Kind::Service, &service.namespace, &service.name), Some(port));
    let Filters { request_headers, response_headers, .. } = filters;
    Some(BackendRef { service, port, weight, request_headers, response_headers })
}

type Limit = Option<Switch<Duration>>;

fn timeouts(r: &mut Reader, node: &Node) -> Option<(Limit, Limit)> {
    let mut f = r.fields(node)?;
    let request = f.optional(r, "request", Reader::limit);
    let backend = f.optional(r, "backendRequest", Reader::limit);
    if let (Some(Switch::On(request)), Some(Switch::On(backend))) = (request, backend)
        && backend > request
        && let Some(at) = f.find("backendRequest")
    {
        let remedy = Some("lower it, or raise `request`".into());
        r.within("backendRequest", |r| r.issue(at, "one try may not take longer than the whole request", remedy));
    }
    f.close(r);
    Some((request, backend))
}
