//! Who may call a port of a workload: the AuthorizationPolicies of its namespace that apply to it.

use crate::index::{Item, World};
use weir_config::{
    model::Authz,
    resources::{Applies, AuthorizationPolicy, AuthzAction, Key, Workload},
};

/// The decision for what arrives for a workload through a port of a service, or through one that is no service's. A `Deny` that matches refuses; if any
/// `Allow` applies, what none of them allows is refused (Istio's semantics).
pub(super) fn authz(world: &World, workload: &Item<Workload>, service: Option<&Key>) -> Authz {
    let mut authz = Authz::default();
    let Some(namespace) = world.namespace(workload.namespace()) else { return authz };
    for policy in namespace.authorizations.iter().filter(|policy| applies(policy, workload, service)) {
        let name = format!("{}/{}", policy.namespace(), policy.name());
        let compiled = policy.compiled(&name, &world.mesh().trust_domain);
        let to = match policy.action {
            AuthzAction::Deny => &mut authz.deny,
            AuthzAction::Allow => authz.allow.get_or_insert_default(),
            AuthzAction::Audit => authz.audit.get_or_insert_default(),
        };
        // A policy without rules matches nothing; that it is there is enough for what it refuses.
        if !compiled.rules.is_empty() {
            to.push(compiled);
        }
    }
    authz
}

fn applies(policy: &Item<AuthorizationPolicy>, workload: &Item<Workload>, service: Option<&Key>) -> bool {
    match &policy.applies {
        Applies::Namespace => true,
        Applies::Selected(labels) => labels.iter().all(|(key, value)| workload.labels().get(key) == Some(value)),
        Applies::To(targets) => targets.iter().any(|target| {
            let key = target.key(policy.namespace());
            key == workload.key || service == Some(&key)
        }),
    }
}
