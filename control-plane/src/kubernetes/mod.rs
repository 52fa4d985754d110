//! A cluster as a source of documents: what its objects mean to the mesh, and how they are watched.
//!
//! Translation is pure, an object at a time: a Pod is a [`weir_config::resources::Workload`] ([`pod`]), a Service is read
//! more leniently than an operator's ([`service`]: the cluster's own services speak UDP, too), everything else is a document
//! as it stands ([`object`]). EndpointSlices ([`slice`]) say in which zone a pod is, and stand behind services without a
//! selector.
//!
//! [`watch`] lists and watches each kind and tells what it sees in one order; what is kept of it is the store's.

pub mod client;
pub mod object;
pub mod objects;
pub mod pod;
pub mod service;
pub mod slice;
#[cfg(test)]
mod tests;
pub mod watch;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use weir_config::resources::{Document, Issue, Key};

/// An object's name in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Empty for what is not in a namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Name {
    /// Of an object.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    /// From its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// What the API server knows of an object besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Tells it from an earlier object of the same name.
    pub uid: Arc<str>,
    /// A number that rises with each write to the cluster; 0 where it is none.
    pub version: u64,
    /// Counts the changes of its `spec`. Services have none.
    pub generation: Option<u64>,
    /// When it was created, in seconds since 1970.
    pub created: i64,
}

impl Known {
    /// Of an object.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            version: version(metadata),
            generation: metadata.generation.and_then(|g| u64::try_from(g).ok()),
            created: metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        }
    }
}

/// The number of an object's version: they are numbers that can be compared, for all kinds in one sequence.
pub fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// What an object means.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// A document.
    Document(Box<Document>),
    /// Nothing to the mesh.
    Nothing,
    /// It is refused.
    Refused(Vec<Issue>),
}

/// The annotation of documents that an object of the cluster stands behind: its kind.
pub const FROM: &str = "weir.dev/from";
/// Written by `kubectl`: a copy of the whole document.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reads a document as the strict reader does.
fn read(key: &Key, labels: Value, annotations: Value, spec: Value) -> Meaning {
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(&*key.name));
    if key.kind.namespaced() {
        metadata.insert("namespace".into(), json!(&*key.namespace));
    }
    metadata.insert("labels".into(), labels);
    metadata.insert("annotations".into(), annotations);
    let document = json!({
        "apiVersion": key.kind.api_version(), "kind": key.kind.as_str(), "metadata": metadata, "spec": spec,
    });
    match Document::from_json(&document) {
        Ok(document) => Meaning::Document(Box::new(document)),
        Err(issues) => Meaning::Refused(issues),
    }
}

/// An object's labels.
fn labels(metadata: &ObjectMeta) -> Value {
    metadata.labels.as_ref().map_or_else(|| json!({}), |labels| json!(labels))
}

/// An object's annotations, without copies of the object.
fn annotations(metadata: &ObjectMeta) -> Value {
    let all = metadata.annotations.iter().flatten().filter(|(name, _)| *name != LAST_APPLIED);
    Value::Object(all.map(|(name, value)| (name.clone(), json!(value))).collect())
}
