//! `playback`: what a player needs to know before the first picture, over HTTP. On the critical path.

use super::{titles::number, video::SEGMENT_BYTES};
use crate::app::Parts;
use axum::{
    Json, Router,
    extract::{Path, Query},
    routing::get,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// Segments in a title.
const SEGMENTS: u32 = 1800;

/// How a title is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which title.
    pub title: String,
    /// How much time one segment fills.
    pub segment_ms: u64,
    /// How long each segment is.
    pub segment_bytes: u64,
    /// Paths of the segments asked for, in order.
    pub segments: Vec<String>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Part {
    first: u32,
    count: u32,
}

impl Default for Part {
    fn default() -> Self {
        Self { first: 0, count: 10 }
    }
}

pub(super) fn build() -> Parts {
    Parts { router: Router::new().route("/manifest/{title}", get(manifest)), admin: Router::new() }
}

async fn manifest(Path(title): Path<String>, Query(part): Query<Part>) -> Result<Json<Manifest>, StatusCode> {
    if number(&title).is_none() {
        return Err(StatusCode::NOT_FOUND);
    }
    let first = part.first.min(SEGMENTS);
    let last = first.saturating_add(part.count.min(100)).min(SEGMENTS);
    let segments = (first..last).map(|n| format!("/segments/{title}/{n}")).collect();
    Ok(Json(Manifest { title, segment_ms: 1000, segment_bytes: SEGMENT_BYTES, segments }))
}
