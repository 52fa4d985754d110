//! Who may call what. Decided at the called side, by the identity in the peer's certificate.

use super::{PathMatch, StringMatch};
use serde::Serialize;
use std::sync::Arc;

/// The decision for one inbound chain: a match in `deny` refuses; then, if `allow` is there, no match in it refuses.
/// `audit` only reports what would be refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Authz {
    /// Refuse if one matches.
    pub deny: Vec<AuthzPolicy>,
    /// `None`: everyone who got this far; `Some`: only what one of these allows (an empty list refuses all).
    pub allow: Option<Vec<AuthzPolicy>>,
    /// As `allow`, reported and not enforced.
    pub audit: Option<Vec<AuthzPolicy>>,
}

/// A named list of rules; one that matches is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthzPolicy {
    /// `<namespace>/<name>` of the `AuthorizationPolicy`.
    pub name: Arc<str>,
    /// At least one.
    pub rules: Vec<AuthzRule>,
}

/// All of its non-empty lists must have a match; an empty list asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuthzRule {
    /// Whose certificate.
    pub principals: Vec<PrincipalMatch>,
    /// HTTP methods, exactly. Never matches bytes.
    pub methods: Vec<String>,
    /// Paths. Never matches bytes.
    pub paths: Vec<PathMatch>,
}

/// A peer, by its SPIFFE identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalMatch {
    /// Any peer with a valid certificate.
    Authenticated,
    /// The SPIFFE URI matches.
    Id(StringMatch),
}
