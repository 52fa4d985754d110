//! How a stored document is written on disk: one JSON object, the document inside it as the operator would write it, so
//! that a database can be read with common tools, and later versions can read what earlier ones wrote.

use super::Stored;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use time::OffsetDateTime;
use weir_config::resources::{Document, Key};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid: Arc<str>,
    resource_version: u64,
    generation: u64,
    /// Nanoseconds since 1970: the order of creation decides between routes, so it is kept exactly.
    created: i128,
    document: serde_json::Value,
}

/// The name under which a document is kept: kind, namespace, name.
pub(super) fn name(key: &Key) -> String {
    format!("{}/{}/{}", key.kind, key.namespace, key.name)
}

/// To bytes.
pub(super) fn encode(stored: &Stored) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Record {
        uid: stored.uid.clone(),
        resource_version: stored.resource_version,
        generation: stored.generation,
        created: stored.created.unix_timestamp_nanos(),
        document: stored.document.to_json(),
    })
}

/// From bytes; says in words why not.
pub(super) fn decode(bytes: &[u8]) -> Result<Stored, String> {
    let record: Record = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let document = Document::from_json(&record.document)
        .map_err(|issues| issues.first().map_or_else(|| "it is no document".to_owned(), ToString::to_string))?;
    let created = OffsetDateTime::from_unix_timestamp_nanos(record.created).map_err(|e| e.to_string())?;
    Ok(Stored::new(document, record.uid, record.resource_version, record.generation, created))
}
