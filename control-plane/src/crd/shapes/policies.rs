//! `TrafficPolicy` and `AuthorizationPolicy`.

use super::settings::{CircuitBreaker, ConnectionPool, Fault, LoadBalancing, Retry, RetryBudget, Timeouts};
use crate::crd::texts::{
    Account, Action, AuthorizationTarget, Label, Labels, Method, Name, PathPattern, Principal, TrafficTarget,
};
use schemars::JsonSchema;
use serde_json::{Value, json};

/// How a Service is called, how a route's requests are treated, or (faults on purpose) what one Workload does to what
/// arrives.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = effects()))]
pub(in crate::crd) struct TrafficPolicySpec {
    /// What it is about, in its own namespace.
    #[schemars(length(min = 1, max = 1000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    target_refs: Vec<TrafficTargetRef>,
    /// Which instance gets a request.
    load_balancing: Option<LoadBalancing>,
    /// What is tried again.
    retry: Option<Retry>,
    /// How much may be tried again, of all requests.
    retry_budget: Option<RetryBudget>,
    /// How long things may take.
    timeouts: Option<Timeouts>,
    /// Limits, and which instances are left out for a while.
    circuit_breaker: Option<CircuitBreaker>,
    /// Connections that are kept.
    connection_pool: Option<ConnectionPool>,
    /// Faults on purpose.
    fault: Option<Fault>,
}

/// What has an effect on some targets only is refused on others.
fn effects() -> Value {
    let effect = |field: &str, others: &str, on: &str| {
        let steps: Vec<_> = field.split('.').collect();
        let there: Vec<_> = (1..=steps.len()).map(|n| format!("has(self.{})", steps[..n].join("."))).collect();
        json!({
            "rule": format!("!({}) || !self.targetRefs.exists(t, {others})", there.join(" && ")),
            "message": format!("`{field}` has an effect on {on} only; put it into a TrafficPolicy for the Service"),
            "fieldPath": format!(".{field}"),
        })
    };
    let services = |field| effect(field, "!(t.kind in ['Service', 'ExternalService'])", "Services");
    json!([
        services("loadBalancing"),
        services("retryBudget"),
        services("circuitBreaker"),
        services("connectionPool"),
        services("timeouts.connect"),
        effect("retry", "t.kind == 'Workload'", "Services and routes"),
    ])
}

#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.group) || (self.kind == 'Service' ? self.group in ['', 'core'] : self.kind in ['Workload', 'ExternalService'] \
                 ? self.group == 'weir.dev' : self.group == 'gateway.networking.k8s.io')",
        "message": "the kind is not of this group; correct it, or leave it out",
        "fieldPath": ".group",
    },
]))]
struct TrafficTargetRef {
    /// The kind's group; may be left out.
    #[schemars(length(max = 253))]
    group: Option<String>,
    /// What it is.
    kind: TrafficTarget,
    /// Its name.
    name: Name,
}

/// Who may call what.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.selector) || !has(self.targetRefs)",
        "message": "a policy has either `targetRefs` or a `selector`",
        "fieldPath": ".selector",
    },
    {
        "rule": "!has(self.action) || self.action != 'Deny' || (has(self.rules) && self.rules.size() > 0)",
        "message": "a Deny policy without rules refuses nothing; add `rules: [{}]` to refuse everything",
        "fieldPath": ".rules",
    },
]))]
pub(in crate::crd) struct AuthorizationPolicySpec {
    /// What may be called, in its own namespace. Without it and without a selector: everything in the namespace.
    #[schemars(length(min = 1, max = 1000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    target_refs: Option<Vec<AuthorizationTargetRef>>,
    /// Which workloads may be called, by their labels.
    selector: Option<Selector>,
    /// `Allow` (unless written), `Deny`, or `Audit`: only counted and logged.
    action: Option<Action>,
    /// A request for which one of them holds is meant. Without any: none is.
    #[schemars(length(max = 1000))]
    rules: Option<Vec<Rule>>,
}

#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.group) || (self.kind == 'Service' ? self.group in ['', 'core'] : self.group == 'weir.dev')",
        "message": "the kind is not of this group; correct it, or leave it out",
        "fieldPath": ".group",
    },
]))]
struct AuthorizationTargetRef {
    /// The kind's group; may be left out.
    #[schemars(length(max = 253))]
    group: Option<String>,
    /// What it is.
    kind: AuthorizationTarget,
    /// Its name.
    name: Name,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Selector {
    /// A workload that has all of them is meant.
    match_labels: Labels,
}

#[derive(JsonSchema)]
struct Rule {
    /// One of these callers; without it: any.
    #[schemars(length(min = 1, max = 1000))]
    from: Option<Vec<From>>,
    /// One of these operations; without it: any.
    #[schemars(length(min = 1, max = 1000))]
    to: Option<Vec<To>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        // Lists are dear, and there may be a thousand rules with a thousand entries.
        "rule": "has(self.principals) ? !has(self.serviceAccounts) && !has(self.namespaces) : \
                 has(self.serviceAccounts) != has(self.namespaces)",
        "message": "an entry names one of `principals`, `serviceAccounts`, `namespaces`; make an entry of each",
    },
]))]
struct From {
    /// SPIFFE identities, with or without one `*` at the start or end.
    #[schemars(length(min = 1, max = 1000))]
    principals: Option<Vec<Principal>>,
    /// `<namespace>/<name>`, or the name of one in this namespace.
    #[schemars(length(min = 1, max = 1000))]
    service_accounts: Option<Vec<Account>>,
    /// All in these namespaces.
    #[schemars(length(min = 1, max = 1000))]
    namespaces: Option<Vec<Label>>,
}

#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.methods) || has(self.paths)",
        "message": "this names nothing; add `methods` or `paths`, or leave `to` out",
    },
]))]
struct To {
    /// Methods of HTTP.
    #[schemars(length(min = 1, max = 1000))]
    methods: Option<Vec<Method>>,
    /// `/exact`, `/prefix*` or `*suffix`.
    #[schemars(length(min = 1, max = 1000))]
    paths: Option<Vec<PathPattern>>,
}
