//! List, get, put and delete, with the paths that Kubernetes has:
//! `/api/v1/{plural}`, `/api/v1/namespaces/{namespace}/{plural}[/{name}]`, and `/api/v1/{plural}/{name}` for a kind
//! that is not in a namespace.

use super::{
    Api, body,
    problem::{ApiError, Result},
    types::{Applied, AppliedDocument, DocumentList, ListMetadata, Problem},
};
use crate::store::{self, Batch, Change, Expect, Stored};
use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::IntoParams;
use weir_config::resources::{Key, Kind};

/// Options of a write.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WriteOptions {
    /// Check everything and say what would happen, without doing it.
    #[serde(default)]
    pub dry_run: bool,
}

/// The documents of a kind in all namespaces.
#[utoipa::path(get, path = "/api/v1/{plural}", tag = "documents",
    params(("plural" = String, Path, description = "services, externalservices, workloads, httproutes, grpcroutes, trafficpolicies, authorizationpolicies, meshes")),
    responses((status = 200, body = DocumentList), (status = 404, body = Problem)))]
pub(super) async fn list_all(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DocumentList>> {
    let Path(plural) = path?;
    Ok(Json(listed(&api, kind(&plural)?, None)))
}

/// The documents of a kind in a namespace.
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace}/{plural}", tag = "documents",
    params(("namespace" = String, Path), ("plural" = String, Path)),
    responses((status = 200, body = DocumentList), (status = 404, body = Problem)))]
pub(super) async fn list(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<DocumentList>> {
    let Path((namespace, plural)) = path?;
    Ok(Json(listed(&api, namespaced(&plural)?, Some(&namespace))))
}

/// One document.
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace}/{plural}/{name}", tag = "documents",
    params(("namespace" = String, Path), ("plural" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Object, headers(("ETag" = String, description = "for If-Match"))), (status = 404, body = Problem)))]
pub(super) async fn get(
    State(api): State<Api>,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Response> {
    let Path((namespace, plural, name)) = path?;
    found(&api, &Key::new(namespaced(&plural)?, &namespace, &name))
}

/// Creates or replaces one document.
#[utoipa::path(put, path = "/api/v1/namespaces/{namespace}/{plural}/{name}", tag = "documents",
    params(("namespace" = String, Path), ("plural" = String, Path), ("name" = String, Path), WriteOptions,
        ("If-Match" = Option<String>, Header, description = "the ETag, or resourceVersion, that the write is based on"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none")),
    request_body(content((Object = "application/yaml"), (Object = "application/json"))),
    responses((status = 200, body = Object), (status = 201, body = Object), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(api): State<Api>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    options: Result<Query<WriteOptions>, QueryRejection>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let Path((namespace, plural, name)) = path?;
    let key = Key::new(namespaced(&plural)?, &namespace, &name);
    put_one(&api, key, options?.0, &headers, &bytes?).await
}

/// Deletes one document.
#[utoipa::path(delete, path = "/api/v1/namespaces/{namespace}/{plural}/{name}", tag = "documents",
    params(("namespace" = String, Path), ("plural" = String, Path), ("name" = String, Path), WriteOptions,
        ("If-Match" = Option<String>, Header, description = "only this version")),
    responses((status = 200, body = Applied), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn delete(
    State(api): State<Api>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    options: Result<Query<WriteOptions>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<Applied>> {
    let Path((namespace, plural, name)) = path?;
    let key = Key::new(namespaced(&plural)?, &namespace, &name);
    delete_one(&api, key, options?.0, &headers).await
}

/// One document of a kind that is not in a namespace.
#[utoipa::path(get, path = "/api/v1/{plural}/{name}", tag = "documents",
    params(("plural" = String, Path, description = "meshes"), ("name" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn get_global(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response> {
    let Path((plural, name)) = path?;
    found(&api, &Key::new(global(&plural)?, "", &name))
}

/// Creates or replaces one document of a kind that is not in a namespace.
#[utoipa::path(put, path = "/api/v1/{plural}/{name}", tag = "documents",
    params(("plural" = String, Path, description = "meshes"), ("name" = String, Path), WriteOptions),
    request_body(content((Object = "application/yaml"), (Object = "application/json"))),
    responses((status = 200, body = Object), (status = 201, body = Object), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn put_global(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
    options: Result<Query<WriteOptions>, QueryRejection>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let Path((plural, name)) = path?;
    put_one(&api, Key::new(global(&plural)?, "", &name), options?.0, &headers, &bytes?).await
}

/// Deletes one document of a kind that is not in a namespace.
#[utoipa::path(delete, path = "/api/v1/{plural}/{name}", tag = "documents",
    params(("plural" = String, Path, description = "meshes"), ("name" = String, Path), WriteOptions),
    responses((status = 200, body = Applied), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn delete_global(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
    options: Result<Query<WriteOptions>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<Applied>> {
    let Path((plural, name)) = path?;
    delete_one(&api, Key::new(global(&plural)?, "", &name), options?.0, &headers).await
}

fn listed(api: &Api, kind: Kind, namespace: Option<&str>) -> DocumentList {
    let (version, documents) = api.store.list(kind, namespace);
    DocumentList {
        api_version: "v1".into(),
        kind: "List".into(),
        metadata: ListMetadata { resource_version: version.to_string() },
        items: documents.iter().map(|d| json_of(d)).collect(),
    }
}

fn found(api: &Api, key: &Key) -> Result<Response> {
    let stored = api.store.get(key).ok_or_else(|| ApiError::not_found(format!("there is no {key}")))?;
    Ok(document_response(StatusCode::OK, &stored))
}

async fn put_one(api: &Api, key: Key, options: WriteOptions, headers: &HeaderMap, bytes: &[u8]) -> Result<Response> {
    let document = body::document(headers, bytes, &key.namespace, &key.name)?;
    if document.key() != key {
        return Err(ApiError::bad_request(format!("the path names {key}, and the document {}", document.key())));
    }
    let expect = match precondition(api, &key, headers)? {
        Expect::Any => expected(document.metadata().resource_version.as_deref())?,
        told => told,
    };
    let change = Change::Put { document: Arc::new(document), expect };
    let applied = api.commit(Batch { changes: vec![change], dry_run: options.dry_run }).await?;
    let outcome = applied.outcomes.first().ok_or_else(|| ApiError::internal(&"the store said nothing"))?;
    let stored = outcome.stored.as_ref().ok_or_else(|| ApiError::internal(&"the store kept nothing"))?;
    let created = outcome.action == store::Action::Created && !options.dry_run;
    Ok(document_response(if created { StatusCode::CREATED } else { StatusCode::OK }, stored))
}

async fn delete_one(api: &Api, key: Key, options: WriteOptions, headers: &HeaderMap) -> Result<Json<Applied>> {
    let expect = precondition(api, &key, headers)?;
    let applied = api.commit(Batch { changes: vec![Change::Delete { key, expect }], dry_run: options.dry_run }).await?;
    Ok(Json(applied_of(&applied, options.dry_run)))
}

/// What a transaction did, as the API says it.
pub(super) fn applied_of(applied: &store::Applied, dry_run: bool) -> Applied {
    let document = |o: &store::Outcome| AppliedDocument {
        kind: o.key.kind.as_str().into(),
        namespace: o.key.namespace.to_string(),
        name: o.key.name.to_string(),
        action: o.action.as_str().into(),
        resource_version: o
            .stored
            .as_ref()
            .filter(|_| o.action != store::Action::Deleted)
            .map(|s| s.resource_version.to_string()),
    };
    Applied { version: applied.version, dry_run, documents: applied.outcomes.iter().map(document).collect() }
}

/// A document with what the store knows of it.
pub(super) fn json_of(stored: &Stored) -> Value {
    use time::format_description::well_known::Rfc3339;
    let mut value = stored.document.to_json();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), stored.resource_version.to_string().into());
        metadata.insert("generation".into(), stored.generation.into());
        metadata.insert("uid".into(), (*stored.uid).into());
        metadata.insert("creationTimestamp".into(), stored.created.format(&Rfc3339).unwrap_or_default().into());
    }
    value
}

fn document_response(status: StatusCode, stored: &Stored) -> Response {
    let mut response = (status, Json(json_of(stored))).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", stored.resource_version)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// `metadata.resourceVersion` as a precondition.
pub(super) fn expected(resource_version: Option<&str>) -> Result<Expect> {
    match resource_version {
        None | Some("") => Ok(Expect::Any),
        Some(text) => text.parse().map(Expect::Version).map_err(|_| {
            ApiError::bad_request(format!(
                "`{text}` is no resource version; leave metadata.resourceVersion out, or write it as it was read"
            ))
        }),
    }
}

/// `If-Match` and `If-None-Match` (RFC 9110, 13.1).
fn precondition(api: &Api, key: &Key, headers: &HeaderMap) -> Result<Expect> {
    let text = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap_or("?").trim().to_owned());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expect::Any),
        (None, Some(star)) if star == "*" => Ok(Expect::Absent),
        (Some(star), None) if star == "*" => match api.store.get(key) {
            Some(stored) => Ok(Expect::Version(stored.resource_version)),
            None => Err(ApiError::conflict(format!("{key} does not exist, and If-Match asks for it"))),
        },
        (Some(etag), None) => expected(Some(etag.trim_matches('"'))),
        _ => Err(ApiError::bad_request("send If-Match with one ETag, or If-None-Match: *")),
    }
}

fn kind(plural: &str) -> Result<Kind> {
    Kind::ALL.into_iter().find(|k| k.plural() == plural).ok_or_else(|| {
        let known: Vec<_> = Kind::ALL.iter().map(|k| k.plural()).collect();
        ApiError::not_found(format!("there is no kind `{plural}`; there are {}", known.join(", ")))
    })
}

fn namespaced(plural: &str) -> Result<Kind> {
    let kind = kind(plural)?;
    if kind.namespaced() {
        return Ok(kind);
    }
    Err(ApiError::not_found(format!("{kind} is not in a namespace: use /api/v1/{plural}")))
}

fn global(plural: &str) -> Result<Kind> {
    let kind = kind(plural)?;
    if !kind.namespaced() {
        return Ok(kind);
    }
    Err(ApiError::not_found(format!("{kind} is in a namespace: use /api/v1/namespaces/{{namespace}}/{plural}")))
}
