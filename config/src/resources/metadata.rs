//! `metadata`, as Kubernetes has it: what names a document, labels, and what the store writes into it.

use serde::Serialize;
use std::collections::BTreeMap;

/// A document's `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Unique in its namespace and kind: lower-case letters, digits, `-` and `.`, at most 253.
    pub name: String,
    /// `default` unless written; empty for a kind that is not in a namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// For selection.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For people and tools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Counts changes of `spec`; written by the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Changes with each write; in a request, the version that the write is based on. Written by the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Tells a document from a later one of the same name. Written by the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// RFC 3339. Written by the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
}
