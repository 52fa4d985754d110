//! `weir.dev/v1alpha1 AuthorizationPolicy`: who may call what, decided at the called side.

use super::TargetRef;
use crate::model::{self, AuthzPolicy, PathMatch, PrincipalMatch, StringMatch, TrustDomain};
use serde::Serialize;
use std::collections::BTreeMap;

/// An AuthorizationPolicy's `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicy {
    /// Which workloads decide by it.
    pub applies: Applies,
    /// What a match does.
    pub action: AuthzAction,
    /// One that matches is enough. Empty only with `Allow` and `Audit`: then nothing is allowed.
    pub rules: Vec<AuthzRule>,
}

/// Which workloads of the policy's namespace a policy applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Applies {
    /// `targetRefs`: these Workloads, and the workloads behind these Services (for their ports).
    To(Vec<TargetRef>),
    /// `selector.matchLabels`: workloads with all of these labels.
    Selected(BTreeMap<String, String>),
    /// All.
    Namespace,
}

/// What a match does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum AuthzAction {
    /// It is let through; what matches no `Allow` policy is refused.
    Allow,
    /// It is refused, whatever else allows it.
    Deny,
    /// What matches none is reported and not refused: `Allow` on trial.
    Audit,
}

/// One rule: from one of these, to one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuthzRule {
    /// Who calls; empty: anyone.
    pub from: Vec<Principal>,
    /// What is called; empty: anything.
    pub to: Vec<Operation>,
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Principal {
    /// `principals`: `*`, a SPIFFE identity, or one with a `*` at its end or start.
    Id(PrincipalMatch),
    /// `serviceAccounts`: `<namespace>/<name>`, or a name in the policy's namespace.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// `namespaces`: every workload of a namespace.
    Namespace(String),
}

/// What is called: both lists must have a match; an empty one asks nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// HTTP methods.
    pub methods: Vec<String>,
    /// Paths.
    pub paths: Vec<PathMatch>,
}

impl AuthorizationPolicy {
    /// As the sidecar decides by it. `name` is `<namespace>/<name>` of the document.
    pub fn compiled(&self, name: &str, domain: &TrustDomain) -> AuthzPolicy {
        AuthzPolicy { name: name.into(), rules: self.rules.iter().flat_map(|r| r.compiled(domain)).collect() }
    }
}

impl AuthzRule {
    fn compiled(&self, domain: &TrustDomain) -> Vec<model::AuthzRule> {
        let principals: Vec<_> = self.from.iter().map(|p| p.matcher(domain)).collect();
        let rule = |methods: &[String], paths: &[PathMatch]| model::AuthzRule {
            principals: principals.clone(),
            methods: methods.to_vec(),
            paths: paths.to_vec(),
        };
        match self.to.as_slice() {
            [] => vec![rule(&[], &[])],
            to => to.iter().map(|o| rule(&o.methods, &o.paths)).collect(),
        }
    }
}

impl Principal {
    fn matcher(&self, domain: &TrustDomain) -> PrincipalMatch {
        match self {
            Self::Id(m) => m.clone(),
            Self::ServiceAccount { namespace, name } => {
                PrincipalMatch::Id(StringMatch::Exact(format!("spiffe://{domain}/ns/{namespace}/sa/{name}")))
            }
            Self::Namespace(namespace) => {
                PrincipalMatch::Id(StringMatch::Prefix(format!("spiffe://{domain}/ns/{namespace}/sa/")))
            }
        }
    }
}
