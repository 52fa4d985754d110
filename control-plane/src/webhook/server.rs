//! The two questions over HTTP.

use super::{Metrics, Namespaces, inject, review::Review, validate};
use crate::inject::{Settings, Version};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, watch};

/// Kubernetes keeps objects of 1.5 MiB at most, and sends the old one with the new one.
const LONGEST: usize = 8 << 20;
/// Questions that are answered at a time; the others wait.
const AT_ONCE: usize = 64;
/// Kubernetes waits for 10 s.
const PATIENCE: Duration = Duration::from_secs(8);

/// What answers depend on.
#[derive(Clone)]
pub struct Parts {
    /// The namespaces.
    pub namespaces: Arc<dyn Namespaces>,
    /// What the mesh says of sidecars.
    pub settings: Arc<Settings>,
    /// What runs the pods.
    pub version: watch::Receiver<Version>,
    /// Where is counted.
    pub metrics: Metrics,
}

#[derive(Clone)]
struct Served {
    parts: Parts,
    slots: Arc<Semaphore>,
}

/// `/inject`, `/validate`, and `/readyz` for whoever wants to know that it answers.
pub fn router(parts: Parts) -> Router {
    let served = Served { parts, slots: Arc::new(Semaphore::new(AT_ONCE)) };
    Router::new()
        .route("/inject", post(injection))
        .route("/validate", post(validation))
        .route("/readyz", get(async || "ready\n"))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(served)
}

async fn injection(State(served): State<Served>, body: Bytes) -> Response {
    served
        .timed(async |parts: &Parts| {
            let review = Review::parse(&body)?;
            let (answer, result) = inject::answer(parts, &review).await;
            parts.metrics.injections.with_label_values(&[result]).inc();
            Ok(answer)
        })
        .await
}

async fn validation(State(served): State<Served>, body: Bytes) -> Response {
    served
        .timed(async |parts: &Parts| {
            let review = Review::parse(&body)?;
            let (answer, result) = validate::answer(&review);
            parts.metrics.validations.with_label_values(&[result]).inc();
            Ok(answer)
        })
        .await
}

impl Served {
    async fn timed(&self, answer: impl AsyncFnOnce(&Parts) -> Result<Value, String>) -> Response {
        let timer = self.parts.metrics.seconds.start_timer();
        let in_turn = async {
            let _slot = self.slots.acquire().await.map_err(|_| "it is ending".to_owned())?;
            answer(&self.parts).await
        };
        let answered = tokio::time::timeout(PATIENCE, in_turn).await;
        timer.observe_duration();
        match answered {
            Ok(Ok(answer)) => Json(answer).into_response(),
            Ok(Err(why)) => (StatusCode::BAD_REQUEST, why + "\n").into_response(),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "not answered in time\n").into_response(),
        }
    }
}
