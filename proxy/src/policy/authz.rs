//! Who may call what, by the identity that the peer proved. First a matching denial refuses; then, where there are
//! allowances, the lack of a matching one does. `audit` only says what it would have refused.

use crate::{
    error::{Error, Kind},
    request::{Connection, Request},
    stage::{Response, Stage},
    state::InboundChain,
    telemetry::{AuthzDecision, Metrics},
};
use std::sync::Arc;
use weir_config::model::{Authz, AuthzPolicy, AuthzRule, PrincipalMatch, SpiffeId};

/// Lets in who may.
pub struct Authorise<N> {
    /// What comes next.
    pub next: N,
    /// The chain whose rules are asked.
    pub chain: Arc<InboundChain>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
}

impl<N: Stage<Box<Request>, Failure = Error>> Stage<Box<Request>> for Authorise<N> {
    type Failure = Error;

    async fn call(&self, request: Box<Request>) -> Result<Response, Error> {
        let asked = Asked {
            identity: request.connection.identity.as_ref(),
            http: Some((request.parts.method.as_str(), request.parts.uri.path())),
        };
        enforce(&self.chain.authz, &asked, &request.connection, &self.metrics)?;
        self.next.call(request).await
    }
}

/// What the rules look at.
pub struct Asked<'a> {
    /// Who.
    pub identity: Option<&'a SpiffeId>,
    /// Method and path; `None`: bytes.
    pub http: Option<(&'a str, &'a str)>,
}

/// Decides, counts, and refuses what is denied, naming the rule.
pub fn enforce(authz: &Authz, asked: &Asked<'_>, connection: &Connection, metrics: &Metrics) -> Result<(), Error> {
    if let Some(policies) = &authz.audit
        && !policies.iter().any(|p| p.allows(asked))
    {
        let policy = policies.first().map_or("", |p| &p.name);
        metrics.authz(AuthzDecision::Audit, policy);
        tracing::info!(%policy, peer = %connection.peer, identity = ?connection.identity, "would be denied (audit)");
    }
    match decide(authz, asked) {
        Decision::Allow(policy) => {
            if let Some(policy) = policy {
                metrics.authz(AuthzDecision::Allow, policy);
            }
            Ok(())
        }
        Decision::Deny(policy) => {
            metrics.authz(AuthzDecision::Deny, policy);
            let who = asked.identity.map_or("a caller without a certificate", SpiffeId::as_str);
            Err(Kind::PolicyDenied.detail(format!("{who} is refused by {policy}")))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision<'a> {
    Allow(Option<&'a str>),
    Deny(&'a str),
}

fn decide<'a>(authz: &'a Authz, asked: &Asked<'_>) -> Decision<'a> {
    if let Some(policy) = authz.deny.iter().find(|p| p.allows(asked)) {
        return Decision::Deny(&policy.name);
    }
    match &authz.allow {
        None => Decision::Allow(None),
        Some(policies) => match policies.iter().find(|p| p.allows(asked)) {
            Some(policy) => Decision::Allow(Some(&policy.name)),
            None => Decision::Deny("default-deny"),
        },
    }
}

trait Matches {
    fn allows(&self, asked: &Asked<'_>) -> bool;
}

impl Matches for AuthzPolicy {
    fn allows(&self, asked: &Asked<'_>) -> bool {
        self.rules.iter().any(|rule| rule.allows(asked))
    }
}

impl Matches for AuthzRule {
    fn allows(&self, asked: &Asked<'_>) -> bool {
        let Self { principals, methods, paths } = self;
        let principal = principals.is_empty()
            || principals.iter().any(|p| match (p, asked.identity) {
                (_, None) => false,
                (PrincipalMatch::Authenticated, Some(_)) => true,
                (PrincipalMatch::Id(wanted), Some(id)) => wanted.is_match(id.as_str()),
            });
        let method = methods.is_empty() || asked.http.is_some_and(|(method, _)| methods.iter().any(|m| m == method));
        let path = paths.is_empty() || asked.http.is_some_and(|(_, path)| paths.iter().any(|p| p.is_match(path)));
        principal && method && path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_config::model::{PathMatch, StringMatch};

    fn policy(name: &str, principal: &str, methods: &[&str], paths: &[&str]) -> AuthzPolicy {
        let principals = match principal {
            "" => vec![],
            "*" => vec![PrincipalMatch::Authenticated],
            id => vec![PrincipalMatch::Id(StringMatch::Exact(id.into()))],
        };
        let rule = AuthzRule {
            principals,
            methods: methods.iter().map(|m| (*m).into()).collect(),
            paths: paths.iter().map(|p| PathMatch::Segments((*p).into())).collect(),
        };
        AuthzPolicy { name: name.into(), rules: vec![rule] }
    }

    #[test]
    fn denials_come_first_and_allowances_close_the_door_behind_them() {
        let web: SpiffeId = "spiffe://d/ns/a/sa/web".parse().unwrap();
        let get = |id| Asked { identity: id, http: Some(("GET", "/a/b")) };
        let bytes = |id| Asked { identity: id, http: None };
        let mut authz = Authz::default();
        assert_eq!(decide(&authz, &get(None)), Decision::Allow(None), "without rules everyone");
        authz.allow = Some(vec![policy("p", web.as_str(), &["GET"], &["/a"])]);
        assert_eq!(decide(&authz, &get(Some(&web))), Decision::Allow(Some("p")));
        assert_eq!(decide(&authz, &get(None)), Decision::Deny("default-deny"));
        assert_eq!(decide(&authz, &bytes(Some(&web))), Decision::Deny("default-deny"), "bytes have no method");
        authz.deny = vec![policy("no", "*", &[], &["/a"])];
        assert_eq!(decide(&authz, &get(Some(&web))), Decision::Deny("no"));
        authz = Authz { allow: Some(vec![]), ..Authz::default() };
        assert_eq!(decide(&authz, &get(Some(&web))), Decision::Deny("default-deny"), "an empty list allows nobody");
    }
}
