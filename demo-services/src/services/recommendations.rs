//! `recommendations`: titles for one viewer, over gRPC. Takes a few milliseconds of thought; nobody dies without it.

use super::titles::{TITLES, mix, mix_text, title};
use crate::{
    app::Parts,
    proto::{RECOMMENDATIONS_LIST, Recommendations, RecommendationsRequest, unary},
};
use axum::{Router, body::Body, routing::post};
use http::Request;
use std::time::Duration;
use tonic::Status;

const THOUGHT: Duration = Duration::from_millis(3);
const MOST: u32 = 50;

pub(super) fn build() -> Parts {
    let list = async |request: Request<Body>| unary(request, list).await;
    Parts { router: Router::new().route(RECOMMENDATIONS_LIST, post(list)), admin: Router::new() }
}

async fn list(request: RecommendationsRequest) -> Result<Recommendations, Status> {
    tokio::time::sleep(THOUGHT).await;
    let seed = mix_text(&request.user);
    let candidates = (0..u64::from(TITLES)).map(|i| title((mix(seed ^ i) % u64::from(TITLES)) as u32));
    let liked = candidates.filter(|t| request.tastes.is_empty() || request.tastes.contains(&t.genre));
    Ok(Recommendations { titles: liked.take(request.limit.min(MOST) as usize).map(|t| t.id).collect() })
}
