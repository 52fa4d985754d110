//! `profiles`: who is watching, over gRPC. Everybody has a profile; it follows from the name.

use super::titles::{GENRES, mix_text};
use crate::{
    app::Parts,
    proto::{PROFILES_GET, Profile, ProfileRequest, unary},
};
use axum::{Router, body::Body, routing::post};
use http::Request;
use tonic::Status;

pub(super) fn build() -> Parts {
    let get = async |request: Request<Body>| unary(request, profile).await;
    Parts { router: Router::new().route(PROFILES_GET, post(get)), admin: Router::new() }
}

async fn profile(request: ProfileRequest) -> Result<Profile, Status> {
    if request.user.is_empty() || request.user.len() > 64 {
        return Err(Status::invalid_argument("user must have 1 to 64 bytes"));
    }
    let n = mix_text(&request.user) as usize;
    let tastes = [n, n / 7 + 1].map(|i| GENRES[i % GENRES.len()].to_owned());
    Ok(Profile { name: format!("Viewer {}", request.user), user: request.user, tastes: tastes.into() })
}
