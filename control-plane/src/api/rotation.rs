//! The exchange of the mesh's roots: `GET` and `POST /api/v1/rotation`.

use super::{
    Api,
    problem::{ApiError, Result},
    types::{Problem, Rotation, RotationRequest},
};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};

/// How it stands with the roots: who signs, until when, and whether an exchange is under way.
#[utoipa::path(get, path = "/api/v1/rotation", tag = "identity", responses((status = 200, body = Rotation)))]
pub(super) async fn get(State(api): State<Api>) -> Result<Json<Rotation>> {
    let identity = api.identity.clone();
    let found = tokio::task::spawn_blocking(move || identity.rotation()).await;
    Ok(Json(found.map_err(|e| ApiError::internal(&e))??))
}

/// Begins, holds, goes on with, or takes back an exchange of the roots.
#[utoipa::path(post, path = "/api/v1/rotation", tag = "identity", request_body = RotationRequest,
    responses((status = 200, body = Rotation), (status = 409, body = Problem)))]
pub(super) async fn post(
    State(api): State<Api>,
    request: Result<Json<RotationRequest>, JsonRejection>,
) -> Result<Json<Rotation>> {
    let Json(request) = request?;
    let identity = api.identity.clone();
    let done = tokio::task::spawn_blocking(move || identity.rotate(&request)).await;
    Ok(Json(done.map_err(|e| ApiError::internal(&e))??))
}
