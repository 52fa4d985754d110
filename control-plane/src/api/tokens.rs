//! What a sidecar outside Kubernetes needs to join: `POST /api/v1/tokens` and `GET /api/v1/trust`.

use super::{
    Api,
    problem::{ApiError, Result},
    types::{Problem, Token, TokenRequest, Trust},
};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use http::StatusCode;

/// Makes a join token; whoever has it gets a certificate with this identity.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "identity", request_body = TokenRequest,
    responses((status = 201, body = Token), (status = 400, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn create(
    State(api): State<Api>,
    request: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<Token>)> {
    let Json(request) = request?;
    let identity = api.identity.clone();
    let token = tokio::task::spawn_blocking(move || identity.token(&request)).await;
    Ok((StatusCode::CREATED, Json(token.map_err(|e| ApiError::internal(&e))??)))
}

/// The roots that vouch for identities of the mesh, and for the control plane towards sidecars.
#[utoipa::path(get, path = "/api/v1/trust", tag = "identity", responses((status = 200, body = Trust)))]
pub(super) async fn trust(State(api): State<Api>) -> Json<Trust> {
    let trust_domain = api.world.borrow().mesh().trust_domain.to_string();
    Json(Trust { trust_domain, roots: api.identity.roots() })
}
