//! `POST /api/v1/apply`: all documents of a body in one transaction, or none.

use super::{
    Api, body,
    documents::{WriteOptions, applied_of, expected},
    problem::Result,
    types::{Applied, Problem},
};
use crate::store::{Batch, Change};
use axum::{
    Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
};
use http::HeaderMap;
use std::sync::Arc;

/// Creates or replaces all documents of the body in one transaction, or changes nothing.
#[utoipa::path(post, path = "/api/v1/apply", tag = "documents", params(WriteOptions),
    request_body(content((String = "application/yaml"), (Object = "application/json")),
        description = "YAML documents separated by `---`, or a JSON object, array or List"),
    responses((status = 200, body = Applied), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn apply(
    State(api): State<Api>,
    options: Result<Query<WriteOptions>, QueryRejection>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<Applied>> {
    let Query(options) = options?;
    let mut changes = Vec::new();
    for document in body::documents(&headers, &bytes?)? {
        let expect = expected(document.metadata().resource_version.as_deref())?;
        changes.push(Change::Put { document: Arc::new(document), expect });
    }
    let applied = api.commit(Batch { changes, dry_run: options.dry_run }).await?;
    Ok(Json(applied_of(&applied, options.dry_run)))
}
