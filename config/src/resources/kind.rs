//! The kinds of document, their names in every spelling, and the key that names one document.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The mesh as a whole; not in a namespace.
    Mesh,
    /// An instance of an application outside Kubernetes.
    Workload,
    /// A name with ports that workloads stand behind.
    Service,
    /// Hosts outside the mesh.
    ExternalService,
    /// Rules for HTTP requests to a Service.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// Rules for gRPC calls to a Service.
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
    /// How a target is called.
    TrafficPolicy,
    /// Who may call a target.
    AuthorizationPolicy,
}

impl Kind {
    /// All, in the order in which they are best created: what is referred to comes first.
    pub const ALL: [Self; 8] = [
        Self::Mesh,
        Self::Workload,
        Self::Service,
        Self::ExternalService,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TrafficPolicy,
        Self::AuthorizationPolicy,
    ];

    /// As it stands in `kind:`.
    pub fn as_str(self) -> &'static str {
        self.names().0
    }

    /// As it stands in URLs: lower case, plural.
    pub fn plural(self) -> &'static str {
        self.names().1
    }

    /// The short name that the command line takes, as `kubectl` has it where the kind exists there.
    pub fn short(self) -> &'static str {
        self.names().2
    }

    /// As it stands in `apiVersion:`.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Service => "v1",
            Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io/v1",
            Self::Mesh | Self::Workload | Self::ExternalService | Self::TrafficPolicy | Self::AuthorizationPolicy => {
                "weir.dev/v1alpha1"
            }
        }
    }

    /// The API group, empty for the core.
    pub fn group(self) -> &'static str {
        self.api_version().rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// Whether its documents live in a namespace. (A [`Key`] of one that does not has an empty namespace.)
    pub fn namespaced(self) -> bool {
        self != Self::Mesh
    }

    /// Any spelling: `HTTPRoute`, `httproute`, `httproutes`, `hr`; case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|k| text == k.as_str().to_ascii_lowercase() || text == k.plural() || text == k.short())
    }

    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Mesh => ("Mesh", "meshes", "mesh"),
            Self::Workload => ("Workload", "workloads", "wl"),
            Self::Service => ("Service", "services", "svc"),
            Self::ExternalService => ("ExternalService", "externalservices", "es"),
            Self::HttpRoute => ("HTTPRoute", "httproutes", "hr"),
            Self::GrpcRoute => ("GRPCRoute", "grpcroutes", "gr"),
            Self::TrafficPolicy => ("TrafficPolicy", "trafficpolicies", "tp"),
            Self::AuthorizationPolicy => ("AuthorizationPolicy", "authorizationpolicies", "ap"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one document. Ordered by kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a kind that is not in one.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// A key; the namespace of a kind that is not in one is left out.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced() { namespace } else { "" };
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    /// `HTTPRoute/demo/web`, `Mesh/mesh`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Why a text is no [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name a document: write `<kind>/<namespace>/<name>`, or `Mesh/<name>`")]
pub struct KeyError(String);

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let err = || KeyError(text.chars().take(200).collect());
        let (kind, rest) = text.split_once('/').ok_or_else(err)?;
        let kind = Kind::parse(kind).ok_or_else(err)?;
        let (namespace, name) = match (kind.namespaced(), rest.split_once('/')) {
            (true, Some(parts)) => parts,
            (false, None) => ("", rest),
            _ => return Err(err()),
        };
        if name.is_empty() || name.contains('/') || (kind.namespaced() && namespace.is_empty()) {
            return Err(err());
        }
        Ok(Self::new(kind, namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_kind_is_understood() {
        for kind in Kind::ALL {
            for text in [kind.as_str(), kind.plural(), kind.short(), &kind.as_str().to_lowercase()] {
                assert_eq!(Kind::parse(text), Some(kind), "{text}");
            }
        }
        assert_eq!(Kind::parse("pods"), None);
    }

    #[test]
    fn a_key_reads_what_it_writes() {
        for text in ["HTTPRoute/demo/web", "Mesh/mesh", "Service/default/catalog"] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
        for bad in ["", "Service", "Service/web", "Mesh/a/b", "Service//web", "Service/a/b/c", "Pod/a/b"] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
