//! From a request's body to documents: YAML (one or several documents) or JSON (an object, an array, a `List`).

use super::problem::{ApiError, Result};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use weir_config::resources::{self, Document, Issue};

/// The name under which issues say that something is in the body.
const BODY: &str = "body";
/// More documents than this in one body are refused.
const MAX_DOCUMENTS: usize = 20_000;

/// All documents of a body.
pub(super) fn documents(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Document>> {
    let documents = match media(headers)? {
        Media::Yaml => resources::parse(BODY, text(body)?).map_err(|issues| ApiError::invalid(&issues))?,
        Media::Json => from_json(flatten(json(body)?)?)?,
    };
    match documents.len() {
        0 => Err(ApiError::bad_request("the body has no document")),
        1..=MAX_DOCUMENTS => Ok(documents),
        n => Err(ApiError::bad_request(format!("the body has {n} documents; send at most {MAX_DOCUMENTS} at once"))),
    }
}

/// The one document of a body. A name and a namespace that it does not write are those of the path.
pub(super) fn document(headers: &HeaderMap, body: &[u8], namespace: &str, name: &str) -> Result<Document> {
    let media = media(headers)?;
    let mut value: Value = match media {
        Media::Json => json(body)?,
        Media::Yaml => match serde_saphyr::from_str(text(body)?) {
            Ok(value) => value,
            // Not one document, or no YAML: the strict reader says what, and where.
            Err(_) => return one(documents(headers, body)?),
        },
    };
    let written = |field: &str| value.pointer(&format!("/metadata/{field}")).is_some_and(|v| !v.is_null());
    if matches!(media, Media::Yaml) && written("name") && (written("namespace") || namespace == "default") {
        // With lines for what is wrong.
        return one(documents(headers, body)?);
    }
    if let Some(metadata) = value
        .as_object_mut()
        .and_then(|o| o.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new())).as_object_mut())
    {
        metadata.entry("name").or_insert_with(|| name.into());
        if !namespace.is_empty() {
            metadata.entry("namespace").or_insert_with(|| namespace.into());
        }
    }
    one(from_json(vec![value])?)
}

enum Media {
    Yaml,
    Json,
}

fn media(headers: &HeaderMap) -> Result<Media> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Media::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(Media::Yaml),
        other => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "The body's media type is not known",
            format!("`{other}` is not read here; send application/yaml or application/json in Content-Type"),
        )),
    }
}

fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|e| ApiError::bad_request(format!("the body is not UTF-8: {e}")))
}

fn json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|e| {
        let mut issue = Issue::of_source(BODY, e.to_string(), None);
        issue.line = e.line() as u32;
        issue.column = e.column() as u32;
        ApiError::invalid(&[issue])
    })
}

fn flatten(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(all) => Ok(all),
        Value::Object(mut object) if object.get("kind").is_some_and(|k| k == "List") => match object.remove("items") {
            Some(Value::Array(all)) => Ok(all),
            _ => Err(ApiError::bad_request("a List needs `items`")),
        },
        one @ Value::Object(_) => Ok(vec![one]),
        _ => Err(ApiError::bad_request("the body is no document: send an object, an array of objects, or a List")),
    }
}

fn from_json(values: Vec<Value>) -> Result<Vec<Document>> {
    let mut documents = Vec::with_capacity(values.len());
    let mut issues = Vec::new();
    for value in &values {
        match Document::from_json(value) {
            Ok(document) => documents.push(document),
            Err(more) => issues.extend(more),
        }
    }
    if issues.is_empty() { Ok(documents) } else { Err(ApiError::invalid(&issues)) }
}

fn one(mut documents: Vec<Document>) -> Result<Document> {
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document),
        _ => Err(ApiError::bad_request("put one document here; send several to POST /api/v1/apply")),
    }
}
