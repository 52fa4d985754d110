//! `analytics`: heartbeats of players, over HTTP. Has a small capacity, beyond which requests queue: the service that is
//! easiest to overload and least worth waiting for.

use crate::{
    app::{Context, Parts},
    stats::{Timeline, unix_seconds},
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Events that are written at once, and how long one takes: 400 a second at most.
const WRITERS: usize = 2;
const WRITE: Duration = Duration::from_millis(5);

/// What a player tells now and then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who.
    pub user: String,
    /// What they watch.
    pub title: String,
    /// How far they are.
    pub position_ms: u64,
}

struct Analytics {
    writers: Semaphore,
    timeline: Arc<Timeline>,
}

pub(super) fn build(context: &Context) -> Parts {
    let state = Arc::new(Analytics { writers: Semaphore::new(WRITERS), timeline: context.timeline.clone() });
    let router = Router::new().route("/events", post(event)).layer(DefaultBodyLimit::max(16 * 1024)).with_state(state);
    Parts { router, admin: Router::new() }
}

async fn event(State(analytics): State<Arc<Analytics>>, Json(_event): Json<Heartbeat>) -> StatusCode {
    let Ok(_writer) = analytics.writers.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE };
    tokio::time::sleep(WRITE).await;
    analytics.timeline.count(unix_seconds(), "events", 1);
    StatusCode::ACCEPTED
}
