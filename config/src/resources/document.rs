//! A document: its metadata, what its `spec` means, and its `spec` as it was written.

use super::{
    AuthorizationPolicy, ExternalService, Issue, Key, Kind, Mesh, Metadata, Reference, RouteSpec, Service,
    TrafficPolicy, Workload, read,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};
use std::sync::Arc;

/// A validated document. Two are equal when their metadata and the meaning of their `spec` are.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// See [`Mesh`].
    Mesh(Object<Mesh>),
    /// See [`Workload`].
    Workload(Object<Workload>),
    /// See [`Service`].
    Service(Object<Service>),
    /// See [`ExternalService`].
    ExternalService(Object<ExternalService>),
    /// See [`RouteSpec`].
    HttpRoute(Object<RouteSpec>),
    /// See [`RouteSpec`].
    GrpcRoute(Object<RouteSpec>),
    /// See [`TrafficPolicy`].
    TrafficPolicy(Object<TrafficPolicy>),
    /// See [`AuthorizationPolicy`].
    AuthorizationPolicy(Object<AuthorizationPolicy>),
}

/// What every kind has, around its `spec`.
#[derive(Debug, Clone)]
pub struct Object<S> {
    /// What names it.
    pub metadata: Metadata,
    /// What it says.
    pub spec: S,
    pub(super) written: Arc<Value>,
    pub(super) origin: Arc<Origin>,
}

impl<S: PartialEq> PartialEq for Object<S> {
    fn eq(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.spec == other.spec
    }
}

/// Where a document was read, and what it refers to.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) file: Arc<str>,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) references: Vec<Reference>,
}

macro_rules! each {
    ($document:expr, $o:ident => $e:expr) => {
        match $document {
            Document::Mesh($o) => $e,
            Document::Workload($o) => $e,
            Document::Service($o) => $e,
            Document::ExternalService($o) => $e,
            Document::HttpRoute($o) | Document::GrpcRoute($o) => $e,
            Document::TrafficPolicy($o) => $e,
            Document::AuthorizationPolicy($o) => $e,
        }
    };
}

impl Document {
    /// From JSON of the same shape as the YAML; every unknown field is an issue here too.
    pub fn from_json(value: &Value) -> Result<Self, Vec<Issue>> {
        read::json("", value)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mesh(_) => Kind::Mesh,
            Self::Workload(_) => Kind::Workload,
            Self::Service(_) => Kind::Service,
            Self::ExternalService(_) => Kind::ExternalService,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::TrafficPolicy(_) => Kind::TrafficPolicy,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        each!(self, o => &o.metadata)
    }

    /// Its metadata, for the store to write into. Name and namespace are not to be changed.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        each!(self, o => &mut o.metadata)
    }

    /// Its namespace; empty for a kind that is not in one.
    pub fn namespace(&self) -> &str {
        &self.metadata().namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata().name
    }

    /// What names it.
    pub fn key(&self) -> Key {
        Key::new(self.kind(), self.namespace(), self.name())
    }

    /// Its `spec` as it was written.
    pub fn written(&self) -> &Value {
        each!(self, o => &o.written)
    }

    /// The documents it needs.
    pub fn references(&self) -> &[Reference] {
        &self.origin().references
    }

    /// Whether both say the same, whatever the store wrote into their metadata.
    pub fn same_content(&self, other: &Self) -> bool {
        let (a, b) = (self.metadata(), other.metadata());
        self.key() == other.key()
            && a.labels == b.labels
            && a.annotations == b.annotations
            && self.written() == other.written()
    }

    /// As the REST API gives it: `apiVersion`, `kind`, `metadata`, and `spec` as it was written.
    pub fn to_json(&self) -> Value {
        let kind = self.kind();
        json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": self.metadata(),
            "spec": self.written(),
        })
    }

    /// As a YAML document, without a leading `---`.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.to_json()).unwrap_or_else(|_| self.to_json().to_string())
    }

    pub(super) fn origin(&self) -> &Origin {
        each!(self, o => &o.origin)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(d)?).map_err(|issues| {
            let all: Vec<_> = issues.iter().map(ToString::to_string).collect();
            de::Error::custom(all.join("; "))
        })
    }
}
