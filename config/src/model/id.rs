//! SPIFFE identities: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
//!
//! Source: the SPIFFE-ID specification, §2 (trust domain: lower-case letters, digits, dot, dash, underscore; path
//! segments: letters, digits, dot, dash, underscore; at most 2,048 bytes).

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// Why a text is no SPIFFE identity or trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {why}")]
pub struct IdError {
    text: String,
    what: &'static str,
    why: &'static str,
}

fn err(text: &str, what: &'static str, why: &'static str) -> IdError {
    IdError { text: text.chars().take(200).collect(), what, why }
}

/// The name under which a root of trust vouches for identities, for example `weir.local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name, without scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    /// `weir.local`
    fn default() -> Self {
        Self("weir.local".into())
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let what = "trust domain";
        if text.is_empty() || text.len() > 255 {
            return Err(err(text, what, "it must have 1 to 255 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b)) {
            return Err(err(text, what, "only lower-case letters, digits, `.`, `-` and `_` are allowed"));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(d: TrustDomain) -> Self {
        d.0.to_string()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a workload is, as its certificate says it: a valid SPIFFE URI.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    uri: Arc<str>,
    domain_end: usize,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// The identity of a service account in a namespace.
    pub fn workload(domain: &TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdError> {
        format!("{SCHEME}{domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain that vouches for this identity.
    pub fn trust_domain(&self) -> &str {
        &self.uri[SCHEME.len()..self.domain_end]
    }

    /// The namespace, if the path has the form `/ns/<namespace>/sa/<service-account>`.
    pub fn namespace(&self) -> Option<&str> {
        self.parts().map(|(ns, _)| ns)
    }

    /// The service account, if the path has the form `/ns/<namespace>/sa/<service-account>`.
    pub fn service_account(&self) -> Option<&str> {
        self.parts().map(|(_, sa)| sa)
    }

    fn parts(&self) -> Option<(&str, &str)> {
        let mut it = self.uri[self.domain_end..].split('/').skip(1);
        match (it.next(), it.next(), it.next(), it.next(), it.next()) {
            (Some("ns"), Some(ns), Some("sa"), Some(sa), None) => Some((ns, sa)),
            _ => None,
        }
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let what = "SPIFFE identity";
        if text.len() > 2048 {
            return Err(err(text, what, "it is longer than 2,048 bytes"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| err(text, what, "it must start with `spiffe://`"))?;
        let slash = rest.find('/').unwrap_or(rest.len());
        rest[..slash].parse::<TrustDomain>().map_err(|e| err(text, what, e.why))?;
        let path = &rest[slash..];
        if path.is_empty() {
            return Err(err(text, what, "it has no path; a workload's identity has one"));
        }
        for segment in path[1..].split('/') {
            if segment.is_empty() || segment == "." || segment == ".." {
                return Err(err(text, what, "a path segment is empty, `.` or `..`"));
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
                return Err(err(text, what, "a path segment has a character other than letters, digits, `.-_`"));
            }
        }
        Ok(Self { uri: text.into(), domain_end: SCHEME.len() + slash })
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.uri.to_string()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_identity_is_taken_apart() {
        let id: SpiffeId = "spiffe://weir.local/ns/demo/sa/web".parse().unwrap();
        assert_eq!(id.trust_domain(), "weir.local");
        assert_eq!((id.namespace(), id.service_account()), (Some("demo"), Some("web")));
        let other: SpiffeId = "spiffe://weir.local/a/b".parse().unwrap();
        assert_eq!(other.namespace(), None);
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in [
            "",
            "http://x/y",
            "spiffe://",
            "spiffe://UPPER/x",
            "spiffe://d",
            "spiffe://d/",
            "spiffe://d/a//b",
            "spiffe://d/../x",
            "spiffe://d/a b",
            "spiffe://d/ns/x/sa/y?z",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }
}
