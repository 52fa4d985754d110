//! Reads the `spec` of a TrafficPolicy, and `targetRefs` for all policies.

use super::{
    Kind, Settings, TargetRef, TrafficPolicy,
    node::{Node, Tree},
    read::Reader,
    read_settings::{self, Scope},
};
use crate::model::ConnectionLimits;

pub(super) fn spec(r: &mut Reader, node: &Node) -> Option<TrafficPolicy> {
    let mut f = r.fields(node)?;
    let kinds = [Kind::Service, Kind::ExternalService, Kind::HttpRoute, Kind::GrpcRoute, Kind::Workload];
    let targets = f.required(r, "targetRefs", |r, n| targets(r, n, &kinds));
    f.unsupported(r, "targetRef", "write `targetRefs`, which is a list");
    let settings = read_settings::settings(r, &mut f, Scope::Policy);
    f.close(r);
    let targets = targets?;
    effect(r, node, &targets, &settings);
    Some(TrafficPolicy { targets, settings })
}

/// Reads references to targets in the policy's own namespace.
pub(super) fn targets(r: &mut Reader, node: &Node, kinds: &[Kind]) -> Option<Vec<TargetRef>> {
    let words: Vec<(&str, Kind)> = kinds.iter().map(|k| (k.as_str(), *k)).collect();
    let mut seen: Vec<TargetRef> = vec![];
    let found = r.list(node, |r, n, _| {
        let mut f = r.fields(n)?;
        let kind = f.required(r, "kind", |r, n| r.word(n, &words));
        let name = f.required(r, "name", Reader::name);
        let group = f.optional(r, "group", |r, n| r.text(n).map(|t| (n, t)));
        f.unsupported(r, "namespace", "a policy lives in the namespace of its target");
        f.unsupported(r, "sectionName", "a policy is about the whole of its target");
        f.close(r);
        let (kind, name) = (kind?, name?);
        check_group(r, group, kind);
        let target = TargetRef { kind, name: name.into() };
        if seen.contains(&target) {
            r.issue(n, format!("{kind} `{}` stands here twice", target.name), Some("remove one of the two".into()));
        }
        let namespace = r.namespace.clone();
        r.refer(n, target.key(&namespace), None);
        seen.push(target.clone());
        Some(target)
    })?;
    if matches!(&node.tree, Tree::List(items) if items.is_empty()) {
        r.issue(node, "a policy has at least one target", Some("name one, or remove the policy".into()));
    }
    Some(found)
}

/// A group may be left out; if it is there, it is the kind's.
pub(super) fn check_group(r: &mut Reader, group: Option<(&Node, &str)>, kind: Kind) {
    let Some((node, group)) = group else { return };
    if group != kind.group() && !(group == "core" && kind.group().is_empty()) {
        let remedy = format!("write `group: \"{}\"`, or leave it out", kind.group());
        r.within("group", |r| r.issue(node, format!("{kind} is not of this group"), Some(remedy)));
    }
}

/// Refuses what would have no effect on one of the targets.
fn effect(r: &mut Reader, node: &Node, targets: &[TargetRef], s: &Settings) {
    let breaker = s.limits != ConnectionLimits::default() || s.outlier.is_some() || s.panic_threshold_percent.is_some();
    let pool = s.pool_idle_timeout.is_some() || s.max_connection_age.is_some();
    let said = [
        ("loadBalancing", s.load_balancing.is_some(), false),
        ("retry", s.retry.is_some(), true),
        ("retryBudget", s.retry_budget.is_some(), false),
        ("timeouts.connect", s.connect_timeout.is_some(), false),
        ("circuitBreaker", breaker, false),
        ("connectionPool", pool, false),
    ];
    let route = targets.iter().find(|t| matches!(t.kind, Kind::HttpRoute | Kind::GrpcRoute));
    let workload = targets.iter().find(|t| t.kind == Kind::Workload);
    for (field, _, on_routes) in said.into_iter().filter(|(_, said, _)| *said) {
        let target = workload.or(route.filter(|_| !on_routes));
        let Some(target) = target else { continue };
        let at = field.split('.').try_fold(node, |n, step| n.field(step)).unwrap_or(node);
        let message = format!("`{field}` has no effect on a {}, and `{}` is one", target.kind, target.name);
        r.within(field, |r| r.issue(at, message, Some("put it into a TrafficPolicy for the Service".into())));
    }
}
