//! Who may call what ⇄ Envoy's `RBAC` (gRFC A41), as HTTP or network filters: one that denies, one that allows, one in
//! shadow that only reports.
//!
//! Envoy's policy is "one of the permissions and one of the principals"; ours has rules, each its own combination. So each
//! rule becomes a policy `<name>#<n>`. Whatever is not understood refuses the whole listener: a rule that is dropped is a
//! door left open.
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    Class, limits, matcher,
    wire::{At, Report, pb, unsupported},
};
use crate::model::{Authz, AuthzPolicy, AuthzRule, PathMatch, PrincipalMatch, StringMatch};
use envoy_types::pb::google::protobuf::Any;
use pb::rbac::{
    Permission, Policy, Principal, permission, permission::Rule, principal, principal::Identifier, rbac::Action,
};
use prost::{Message, Name};
use std::collections::BTreeMap;

/// `envoy.config.rbac.v3.RBAC` with its policies in order: a hash map has none on the wire, and the bytes are hashed.
#[derive(Clone, PartialEq, Message)]
struct Rules {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(btree_map = "string, message", tag = "2")]
    policies: BTreeMap<String, Policy>,
}

/// The HTTP filter's message.
#[derive(Clone, PartialEq, Message)]
struct HttpFilter {
    #[prost(message, optional, tag = "1")]
    rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    shadow_rules: Option<Rules>,
}

/// The network filter's message.
#[derive(Clone, PartialEq, Message)]
struct NetworkFilter {
    #[prost(message, optional, tag = "1")]
    rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    shadow_rules: Option<Rules>,
    #[prost(string, tag = "3")]
    stat_prefix: String,
}

/// The configurations of the filters for HTTP, in their order.
pub(super) fn http_filters(authz: &Authz) -> Vec<Any> {
    let filter = |(rules, shadow_rules)| Any {
        type_url: pb::http_rbac::Rbac::type_url(),
        value: HttpFilter { rules, shadow_rules }.encode_to_vec(),
    };
    split(authz).into_iter().map(filter).collect()
}

/// The configurations of the filters for bytes, in their order. Envoy refuses a filter with a rule about methods or paths;
/// since such a rule never matches bytes, it does without.
pub(super) fn network_filters(authz: &Authz, class: Class) -> Vec<Any> {
    let bytes_only = |policies: &[AuthzPolicy]| -> Vec<AuthzPolicy> {
        let applies = |r: &&AuthzRule| r.methods.is_empty() && r.paths.is_empty();
        let only = |p: &AuthzPolicy| AuthzPolicy {
            name: p.name.clone(),
            rules: p.rules.iter().filter(applies).cloned().collect(),
        };
        policies.iter().map(only).filter(|p| !p.rules.is_empty()).collect()
    };
    let without = Authz {
        deny: bytes_only(&authz.deny),
        allow: authz.allow.as_deref().map(bytes_only),
        audit: authz.audit.as_deref().map(bytes_only),
    };
    let filter = |(rules, shadow_rules)| Any {
        type_url: pb::network_rbac::Rbac::type_url(),
        value: NetworkFilter { rules, shadow_rules, stat_prefix: "authz".into() }.encode_to_vec(),
    };
    split(if class == Class::Sidecar { authz } else { &without }).into_iter().map(filter).collect()
}

/// Rules and shadow rules of each filter.
fn split(authz: &Authz) -> Vec<(Option<Rules>, Option<Rules>)> {
    let deny = (!authz.deny.is_empty()).then(|| (Some(rules(Action::Deny, &authz.deny)), None));
    let allow = authz.allow.as_ref().map(|p| (Some(rules(Action::Allow, p)), None));
    let audit = authz.audit.as_ref().map(|p| (None, Some(rules(Action::Allow, p))));
    [deny, allow, audit].into_iter().flatten().collect()
}

fn rules(action: Action, policies: &[AuthzPolicy]) -> Rules {
    let mut map = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for policy in policies {
        // Several policies of one name add up: no rule takes another's place.
        let count = counts.entry(&policy.name).or_default();
        for rule in &policy.rules {
            map.insert(format!("{}#{count}", policy.name), policy_of(rule));
            *count += 1;
        }
    }
    Rules { action: action.into(), policies: map }
}

fn policy_of(rule: &AuthzRule) -> Policy {
    let mut all = vec![];
    if !rule.methods.is_empty() {
        let methods = rule.methods.iter().map(|m| permit(Rule::Header(matcher::method(m))));
        all.push(permit(Rule::OrRules(permission::Set { rules: methods.collect() })));
    }
    if !rule.paths.is_empty() {
        all.push(permit(Rule::OrRules(permission::Set { rules: rule.paths.iter().map(path).collect() })));
    }
    let permission = if all.is_empty() { Rule::Any(true) } else { Rule::AndRules(permission::Set { rules: all }) };
    let principals = match rule.principals.as_slice() {
        [] => vec![Principal { identifier: Some(Identifier::Any(true)) }],
        some => some.iter().map(principal_of).collect(),
    };
    Policy { permissions: vec![permit(permission)], principals, ..Default::default() }
}

fn permit(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

/// Whole segments are "exactly this or below it".
fn path(p: &PathMatch) -> Permission {
    match p {
        PathMatch::Exact(s) => url_path(&StringMatch::Exact(s.clone())),
        PathMatch::Prefix(s) => url_path(&StringMatch::Prefix(s.clone())),
        PathMatch::Regex(r) => url_path(&StringMatch::Regex(r.clone())),
        PathMatch::Segments(s) => permit(Rule::OrRules(permission::Set {
            rules: vec![url_path(&StringMatch::Exact(s.clone())), url_path(&StringMatch::Prefix(format!("{s}/")))],
        })),
    }
}

fn url_path(m: &StringMatch) -> Permission {
    let rule = Some(pb::matcher::path_matcher::Rule::Path(matcher::string(m)));
    permit(Rule::UrlPath(pb::matcher::PathMatcher { rule }))
}

fn principal_of(p: &PrincipalMatch) -> Principal {
    let principal_name = match p {
        PrincipalMatch::Authenticated => None,
        PrincipalMatch::Id(m) => Some(matcher::string(m)),
    };
    Principal { identifier: Some(Identifier::Authenticated(principal::Authenticated { principal_name })) }
}

/// Reads the rules of one filter into what was read so far.
pub(super) fn read(
    out: &mut Report,
    at: &At<'_>,
    authz: &mut Authz,
    (rules, shadow): (Option<pb::rbac::Rbac>, Option<pb::rbac::Rbac>),
) {
    if let Some(rules) = rules {
        let at = at.field("rules");
        match read_rules(out, &at, rules) {
            Some((Action::Deny, policies)) => authz.deny.extend(policies),
            Some((Action::Allow, policies)) if authz.allow.is_none() => authz.allow = Some(policies),
            Some((Action::Allow, _)) => out.refuse(&at, "a second filter that allows is not supported"),
            Some((Action::Log, _)) => out.refuse(&at.field("action"), "`LOG` is not supported"),
            None => {}
        }
    }
    if let Some(shadow) = shadow {
        let at = at.field("shadow_rules");
        match read_rules(out, &at, shadow) {
            Some((Action::Allow, policies)) if authz.audit.is_none() => authz.audit = Some(policies),
            Some(_) => out.note(&at, "is ignored"),
            None => {}
        }
    }
    for list in [Some(&mut authz.deny), authz.allow.as_mut(), authz.audit.as_mut()].into_iter().flatten() {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// Reads an HTTP filter.
pub(super) fn read_http(out: &mut Report, at: &At<'_>, authz: &mut Authz, sent: pb::http_rbac::Rbac) {
    let pb::http_rbac::Rbac {
        rules,
        rules_stat_prefix: _,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix: _,
        track_per_rule_stats: _,
    } = sent;
    unsupported!(out, at; matcher, shadow_matcher);
    read(out, at, authz, (rules, shadow_rules));
}

/// Reads a network filter.
pub(super) fn read_network(out: &mut Report, at: &At<'_>, authz: &mut Authz, sent: pb::network_rbac::Rbac) {
    let pb::network_rbac::Rbac {
        rules,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix: _,
        stat_prefix: _,
        enforcement_type: _,
        delay_deny: _,
    } = sent;
    unsupported!(out, at; matcher, shadow_matcher);
    read(out, at, authz, (rules, shadow_rules));
}

fn read_rules(out: &mut Report, at: &At<'_>, sent: pb::rbac::Rbac) -> Option<(Action, Vec<AuthzPolicy>)> {
    // Every decision is reported here.
    let pb::rbac::Rbac { action, policies, audit_logging_options: _ } = sent;
    let Ok(action) = Action::try_from(action) else {
        out.refuse(&at.field("action"), "is not known");
        return None;
    };
    if policies.len() > limits::RULES {
        out.refuse(&at.field("policies"), format!("has {} entries; the limit is {}", policies.len(), limits::RULES));
        return None;
    }
    let mut by_name: BTreeMap<String, BTreeMap<(usize, usize), AuthzRule>> = BTreeMap::new();
    let at = at.field("policies");
    for (key, policy) in policies {
        let key = out.text(&at, key)?;
        let numbered = key.rsplit_once('#').and_then(|(name, n)| Some((name, n.parse::<usize>().ok()?)));
        let (name, n) = numbered.unwrap_or((key.as_str(), 0));
        let at = at.field(&key);
        for (i, rule) in read_policy(out, &at, policy)?.into_iter().enumerate() {
            by_name.entry(name.to_owned()).or_default().insert((n, i), rule);
        }
    }
    let policy = |(name, rules): (String, BTreeMap<_, _>)| AuthzPolicy {
        name: name.into(),
        rules: rules.into_values().collect(),
    };
    Some((action, by_name.into_iter().map(policy).collect()))
}

/// A rule for each permission.
fn read_policy(out: &mut Report, at: &At<'_>, sent: Policy) -> Option<Vec<AuthzRule>> {
    let Policy { permissions, principals, condition, checked_condition, cel_config } = sent;
    unsupported!(out, at; condition, checked_condition, cel_config);
    if permissions.is_empty() || principals.is_empty() {
        out.refuse(at, "has no permission or no principal");
        return None;
    }
    if !out.within(at, "permissions", &permissions, limits::RULE_ITEMS) {
        return None;
    }
    let principals = read_principals(out, &at.field("principals"), principals)?;
    let mut rules = vec![];
    for (i, p) in permissions.into_iter().enumerate() {
        let mut rule = AuthzRule { principals: principals.clone(), ..Default::default() };
        read_all(out, &at.item("permissions", i), p, &mut rule)?;
        rules.push(rule);
    }
    Some(rules)
}

/// "All of these": at most one list of methods and one of paths.
fn read_all(out: &mut Report, at: &At<'_>, sent: Permission, rule: &mut AuthzRule) -> Option<()> {
    let parts = match sent.rule {
        Some(Rule::Any(true)) => return Some(()),
        Some(Rule::AndRules(set)) => set.rules,
        Some(other) => vec![permit(other)],
        None => vec![],
    };
    if parts.is_empty() {
        out.refuse(at, "is not supported");
        return None;
    }
    for part in parts {
        let (mut methods, mut paths) = (vec![], vec![]);
        match part.rule {
            Some(Rule::Any(true)) => continue,
            Some(Rule::OrRules(set)) => {
                if !out.within(at, "or_rules", &set.rules, limits::RULE_ITEMS) {
                    return None;
                }
                for one in set.rules {
                    read_one(out, at, one, &mut methods, &mut paths)?;
                }
            }
            rule => read_one(out, at, Permission { rule }, &mut methods, &mut paths)?,
        }
        let both = !methods.is_empty() && !paths.is_empty();
        let none = methods.is_empty() && paths.is_empty();
        let again = (!methods.is_empty() && !rule.methods.is_empty()) || (!paths.is_empty() && !rule.paths.is_empty());
        if both || none || again {
            out.refuse(at, "combines its conditions in a way that is not supported");
            return None;
        }
        rule.methods.append(&mut methods);
        rule.paths.append(&mut paths);
    }
    Some(())
}

fn read_one(
    out: &mut Report,
    at: &At<'_>,
    sent: Permission,
    methods: &mut Vec<String>,
    paths: &mut Vec<PathMatch>,
) -> Option<()> {
    match sent.rule {
        Some(Rule::Header(h)) => {
            if let Some(matcher::ReadHeader::Method(m)) = matcher::read_header(out, &at.field("header"), h) {
                methods.push(m);
                return Some(());
            }
            out.refuse(&at.field("header"), "is supported for `:method` only");
            None
        }
        Some(Rule::UrlPath(p)) => {
            let m = read_url_path(out, at, p)?;
            paths.push(path_match(out, at, m)?);
            Some(())
        }
        Some(Rule::OrRules(set)) => {
            paths.push(read_segments(out, at, set.rules)?);
            Some(())
        }
        _ => {
            out.refuse(at, "has a condition that is not supported");
            None
        }
    }
}

fn read_url_path(out: &mut Report, at: &At<'_>, sent: pb::matcher::PathMatcher) -> Option<StringMatch> {
    let at = at.field("url_path");
    match sent.rule {
        Some(pb::matcher::path_matcher::Rule::Path(m)) => matcher::read_string(out, &at, m),
        None => {
            out.refuse(&at, "is empty");
            None
        }
    }
}

/// Suffix and part have no form of their own among paths.
fn path_match(out: &mut Report, at: &At<'_>, m: StringMatch) -> Option<PathMatch> {
    match m {
        StringMatch::Exact(s) => Some(PathMatch::Exact(s)),
        StringMatch::Prefix(s) => Some(PathMatch::Prefix(s)),
        StringMatch::Regex(r) => Some(PathMatch::Regex(r)),
        StringMatch::Suffix(s) => out.regex(at, format!("(?s).*{}", regex::escape(&s))).map(PathMatch::Regex),
        StringMatch::Contains(s) => out.regex(at, format!("(?s).*{}.*", regex::escape(&s))).map(PathMatch::Regex),
    }
}

/// "Exactly `/a` or below `/a/`".
fn read_segments(out: &mut Report, at: &At<'_>, rules: Vec<Permission>) -> Option<PathMatch> {
    let mut both = vec![];
    for rule in rules.into_iter().take(3) {
        if let Some(Rule::UrlPath(p)) = rule.rule {
            both.push(read_url_path(out, at, p)?);
        }
    }
    if let [StringMatch::Exact(exact), StringMatch::Prefix(prefix)] = both.as_slice()
        && prefix.strip_suffix('/') == Some(exact)
    {
        return Some(PathMatch::Segments(exact.clone()));
    }
    out.refuse(at, "has nested conditions that are not supported");
    None
}

/// "One of these"; with "any" among them, nothing is asked.
fn read_principals(out: &mut Report, at: &At<'_>, sent: Vec<Principal>) -> Option<Vec<PrincipalMatch>> {
    let mut list = vec![];
    let mut open = sent;
    let mut anybody = false;
    open.reverse();
    while let Some(p) = open.pop() {
        match p.identifier {
            Some(Identifier::Any(true)) => anybody = true,
            Some(Identifier::OrIds(set)) => open.extend(set.ids.into_iter().rev()),
            Some(Identifier::AndIds(set)) if set.ids.len() == 1 => open.extend(set.ids),
            Some(Identifier::Authenticated(principal::Authenticated { principal_name })) => {
                list.push(match principal_name {
                    None => PrincipalMatch::Authenticated,
                    Some(m) => PrincipalMatch::Id(matcher::read_string(out, &at.field("authenticated"), m)?),
                });
            }
            _ => {
                out.refuse(at, "has an identifier that is not supported");
                return None;
            }
        }
        if list.len() + open.len() > limits::RULE_ITEMS {
            out.refuse(at, format!("has more than {} entries", limits::RULE_ITEMS));
            return None;
        }
    }
    Some(if anybody { vec![] } else { list })
}
