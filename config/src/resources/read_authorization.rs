//! Reads the `spec` of an AuthorizationPolicy.

use super::{
    Applies, AuthorizationPolicy, AuthzAction, AuthzRule, Kind, Operation, Principal,
    node::{Node, Tree},
    read::{Fields, Reader, shorten},
    read_policy,
};
use crate::model::{PathMatch, PrincipalMatch, SafeRegex, SpiffeId, StringMatch};

const ACTIONS: [(&str, AuthzAction); 3] =
    [("Allow", AuthzAction::Allow), ("Deny", AuthzAction::Deny), ("Audit", AuthzAction::Audit)];

pub(super) fn spec(r: &mut Reader, node: &Node) -> Option<AuthorizationPolicy> {
    let mut f = r.fields(node)?;
    let applies = applies(r, &mut f);
    let action = f.optional(r, "action", |r, n| r.word(n, &ACTIONS)).unwrap_or(AuthzAction::Allow);
    let rules = f.optional(r, "rules", |r, n| r.list(n, |r, n, _| rule(r, n))).unwrap_or_default();
    let written = f.find("rules").is_some_and(|n| !matches!(&n.tree, Tree::List(items) if items.is_empty()));
    if action == AuthzAction::Deny && !written {
        let remedy = "add `rules: [{}]` to refuse everything, or remove the policy";
        r.issue(node, "a Deny policy without rules refuses nothing", Some(remedy.into()));
    }
    f.close(r);
    Some(AuthorizationPolicy { applies: applies?, action, rules })
}

fn applies(r: &mut Reader, f: &mut Fields<'_>) -> Option<Applies> {
    if let (Some(node), Some(_)) = (f.find("selector"), f.find("targetRefs")) {
        let remedy = Some("keep one of the two".into());
        r.within("selector", |r| r.issue(node, "a policy has either `targetRefs` or a `selector`", remedy));
    }
    f.unsupported(r, "targetRef", "write `targetRefs`, which is a list");
    if f.find("targetRefs").is_some() {
        let kinds = [Kind::Service, Kind::Workload];
        return f.optional(r, "targetRefs", |r, n| read_policy::targets(r, n, &kinds)).map(Applies::To);
    }
    if f.find("selector").is_none() {
        return Some(Applies::Namespace);
    }
    f.optional(r, "selector", |r, n| {
        let mut f = r.fields(n)?;
        let labels = f.required(r, "matchLabels", Reader::labels);
        f.unsupported(r, "matchExpressions", "write `matchLabels`");
        f.close(r);
        labels
    })
    .map(Applies::Selected)
}

fn rule(r: &mut Reader, node: &Node) -> Option<AuthzRule> {
    let mut f = r.fields(node)?;
    let from = f.optional(r, "from", |r, n| some(r, n, from));
    let to = f.optional(r, "to", |r, n| some(r, n, to));
    f.unsupported(r, "when", "conditions other than identity, method and path are not supported");
    f.close(r);
    Some(AuthzRule { from: from.unwrap_or_default().into_iter().flatten().collect(), to: to.unwrap_or_default() })
}

/// A list that is not empty: an empty one could be taken for "nobody" as well as for "anybody".
fn some<T>(r: &mut Reader, node: &Node, read: fn(&mut Reader, &Node) -> Option<T>) -> Option<Vec<T>> {
    if matches!(&node.tree, Tree::List(items) if items.is_empty()) {
        r.issue(node, "this list is empty", Some("leave it out for any, or say which".into()));
    }
    r.list(node, |r, n, _| read(r, n))
}

/// One entry of `from`. It names one sort of caller, so that nobody need ask whether two sorts mean "and" or "or".
fn from(r: &mut Reader, node: &Node) -> Option<Vec<Principal>> {
    let mut f = r.fields(node)?;
    for istio in ["source", "notPrincipals", "notNamespaces", "ipBlocks", "notIpBlocks", "remoteIpBlocks"] {
        f.unsupported(r, istio, "callers are named by `principals`, `serviceAccounts` or `namespaces`, directly here");
    }
    let sorts = [
        f.optional(r, "principals", |r, n| some(r, n, principal)),
        f.optional(r, "serviceAccounts", |r, n| some(r, n, account)),
        f.optional(r, "namespaces", |r, n| some(r, n, |r, n| r.label(n).map(Principal::Namespace))),
    ];
    let named = ["principals", "serviceAccounts", "namespaces"].into_iter().filter(|s| f.find(s).is_some()).count();
    f.close(r);
    match named {
        0 => r.issue(node, "this names no caller", Some("add `serviceAccounts:`, for example".into())),
        1 => {}
        _ => r.issue(
            node,
            "an entry names one of `principals`, `serviceAccounts`, `namespaces`",
            Some("make an entry of each; one that matches is enough".into()),
        ),
    }
    Some(sorts.into_iter().flatten().flatten().collect())
}

fn principal(r: &mut Reader, node: &Node) -> Option<Principal> {
    let text = r.words(node, 2048)?;
    let found = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text == "*" => Some(PrincipalMatch::Authenticated),
        (None, None) => text.parse::<SpiffeId>().is_ok().then(|| PrincipalMatch::Id(StringMatch::Exact(text.clone()))),
        (Some(end), None) if !end.contains('*') => Some(PrincipalMatch::Id(StringMatch::Suffix(end.into()))),
        (None, Some(start)) if start.starts_with("spiffe://") && !start.contains('*') => {
            Some(PrincipalMatch::Id(StringMatch::Prefix(start.into())))
        }
        _ => None,
    };
    if found.is_none() {
        let remedy = "`spiffe://<trust-domain>/ns/<namespace>/sa/<name>`, with or without one `*` at its start or end";
        r.issue(node, format!("`{}` is not an identity", shorten(&text)), Some(remedy.into()));
    }
    found.map(Principal::Id)
}

fn account(r: &mut Reader, node: &Node) -> Option<Principal> {
    let text = r.text(node)?;
    let own = r.namespace.clone();
    let (namespace, name) = text.split_once('/').unwrap_or((&own, text));
    let good =
        |t: &str| (1..=253).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if good(namespace) && good(name) {
        return Some(Principal::ServiceAccount { namespace: namespace.into(), name: name.into() });
    }
    let remedy = "`<namespace>/<name>`, or the name of one in this namespace";
    r.issue(node, format!("`{}` is not a service account", shorten(text)), Some(remedy.into()));
    None
}

fn to(r: &mut Reader, node: &Node) -> Option<Operation> {
    let mut f = r.fields(node)?;
    for istio in ["operation", "notMethods", "notPaths", "hosts", "notHosts", "ports", "notPorts"] {
        f.unsupported(r, istio, "what is called is named by `methods` and `paths`, directly here");
    }
    let methods = f.optional(r, "methods", |r, n| some(r, n, method));
    let paths = f.optional(r, "paths", |r, n| some(r, n, path));
    if f.find("methods").is_none() && f.find("paths").is_none() {
        r.issue(node, "this names nothing", Some("add `methods:` or `paths:`, or leave `to` out".into()));
    }
    f.close(r);
    Some(Operation { methods: methods.unwrap_or_default(), paths: paths.unwrap_or_default() })
}

fn method(r: &mut Reader, node: &Node) -> Option<String> {
    super::read_match::method(r, node).map(|m| m.to_string())
}

/// `/exact`, `/prefix*`, `*suffix`, `*`.
fn path(r: &mut Reader, node: &Node) -> Option<PathMatch> {
    let text = r.words(node, 1024)?;
    let stars = text.matches('*').count();
    let found = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text == "*" => Some(PathMatch::Prefix("/".into())),
        (None, None) if text.starts_with('/') && stars == 0 => Some(PathMatch::Exact(text.clone())),
        (None, Some(start)) if start.starts_with('/') && stars == 1 => Some(PathMatch::Prefix(start.into())),
        (Some(end), None) if stars == 1 => {
            SafeRegex::new(format!(".*{}", regex::escape(end))).ok().map(PathMatch::Regex)
        }
        _ => None,
    };
    if found.is_none() {
        let remedy = "`/exact`, `/prefix*` or `*suffix`";
        r.issue(node, format!("`{}` is not a path", shorten(&text)), Some(remedy.into()));
    }
    found
}
