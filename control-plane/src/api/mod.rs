//! The REST API under `/api/v1`: documents, what became of changes, the proxies, join tokens; described by an OpenAPI
//! document that is made from this code.
//!
//! Every error is a problem (RFC 9457). Every write is one transaction of the store, with optimistic concurrency by
//! `metadata.resourceVersion` or `If-Match`, and a dry run with `?dryRun=true`.

mod apply;
mod body;
mod documents;
mod fleet;
mod guard;
mod ports;
pub mod problem;
mod rotation;
mod tokens;
pub mod types;

#[cfg(test)]
mod tests;

pub use ports::{Fleet, Identity};

use crate::{
    index::World,
    store::{self, Batch, Change, Store},
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    middleware,
    routing::{get, post},
};
use problem::{ApiError, Result};
use std::sync::Arc;
use tokio::sync::watch;
use utoipa::OpenApi;

/// The largest body of a request.
pub const MAX_BODY: usize = 4 << 20;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The documents.
    pub store: Arc<dyn Store>,
    /// What sidecars hold.
    pub fleet: Arc<dyn Fleet>,
    /// Join tokens and roots.
    pub identity: Arc<dyn Identity>,
    /// The newest index of the documents.
    pub world: watch::Receiver<Arc<World>>,
    /// Where sidecars connect.
    pub xds_address: Arc<str>,
    /// Who has it may do everything; `None`: everybody on this machine may.
    pub admin_token: Option<Arc<str>>,
}

/// The whole API.
pub fn router(api: Api) -> Router {
    let documents = get(documents::get).put(documents::put).delete(documents::delete);
    let globals = get(documents::get_global).put(documents::put_global).delete(documents::delete_global);
    Router::new()
        .route("/api/v1/apply", post(apply::apply))
        .route("/api/v1/proxies", get(fleet::proxies))
        .route("/api/v1/changes", get(fleet::changes))
        .route("/api/v1/changes/{version}", get(fleet::change))
        .route("/api/v1/tokens", post(tokens::create))
        .route("/api/v1/trust", get(tokens::trust))
        .route("/api/v1/rotation", get(rotation::get).post(rotation::post))
        .route("/api/v1/version", get(version))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/api/v1/namespaces/{namespace}/{plural}", get(documents::list))
        .route("/api/v1/namespaces/{namespace}/{plural}/{name}", documents)
        .route("/api/v1/{plural}", get(documents::list_all))
        .route("/api/v1/{plural}/{name}", globals)
        .fallback(async || ApiError::not_found("the API is under /api/v1, and described at /api/v1/openapi.json"))
        .method_not_allowed_fallback(async || {
            let status = http::StatusCode::METHOD_NOT_ALLOWED;
            ApiError::new(status, "method", "The method is not for this path", "see /api/v1/openapi.json")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}

/// The OpenAPI document, made from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(title = "Weir control plane", description = "Documents in, configured sidecars out.", license(name = "Apache-2.0")),
    paths(
        apply::apply, documents::list_all, documents::list, documents::get, documents::put, documents::delete,
        documents::get_global, documents::put_global, documents::delete_global, fleet::proxies, fleet::changes,
        fleet::change, tokens::create, tokens::trust, rotation::get, rotation::post, version, openapi
    ),
    tags(
        (name = "documents", description = "What operators write."),
        (name = "status", description = "What became of it."),
        (name = "identity", description = "Who workloads are."),
        (name = "about", description = "The control plane itself.")
    )
)]
pub struct Description;

/// What runs here.
#[utoipa::path(get, path = "/api/v1/version", tag = "about", responses((status = 200, body = types::Version)))]
async fn version(State(api): State<Api>) -> Json<types::Version> {
    let mesh = api.world.borrow().mesh().clone();
    Json(types::Version {
        version: env!("CARGO_PKG_VERSION").into(),
        trust_domain: mesh.trust_domain.to_string(),
        cluster_domain: mesh.cluster_domain.clone(),
        resource_version: api.store.snapshot().version(),
        xds_address: api.xds_address.to_string(),
    })
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about", responses((status = 200, body = Object)))]
async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}

impl Api {
    /// One transaction, off the asynchronous threads since it waits for the disk.
    async fn commit(&self, mut batch: Batch) -> Result<store::Applied> {
        for change in &mut batch.changes {
            if let Change::Put { document, .. } = change {
                strip(Arc::make_mut(document));
            }
        }
        let store = self.store.clone();
        let applied = tokio::task::spawn_blocking(move || store.apply(&batch)).await;
        Ok(applied.map_err(|e| ApiError::internal(&e))??)
    }
}

/// Takes out of a document what only the store may say; it comes back when somebody writes what he has read.
pub(crate) fn strip(document: &mut weir_config::resources::Document) {
    let metadata = document.metadata_mut();
    metadata.resource_version = None;
    metadata.generation = None;
    metadata.uid = None;
    metadata.creation_timestamp = None;
}
