//! What one document needs of another.

use super::Key;
use serde::Serialize;

/// A document (and, of a Service, a port) that another names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// What is named.
    pub key: Key,
    /// A port that the Service must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The field that names it: `spec.rules[0].backendRefs[0]`.
    pub field: String,
    pub(super) line: u32,
    pub(super) column: u32,
}
