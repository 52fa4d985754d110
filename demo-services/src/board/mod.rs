//! The page of a run: services with their golden numbers, what viewers feel, and buttons that make services fail.
//!
//! The page polls one bounded JSON document, which is made once a second whoever looks.

mod inject;
mod numbers;

pub use inject::{Harm, Injections};
pub use numbers::{Numbers, Replica, Row};

use crate::{
    app::{self, StartError},
    stage::{Error, Stage},
};
use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{Next, from_fn},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the numbers are made anew.
const EVERY: Duration = Duration::from_secs(1);

/// The board of one run.
pub struct Board {
    stage: Arc<Stage>,
    injections: Injections,
    numbers: Mutex<Arc<Numbers>>,
}

impl Board {
    /// A board; nothing runs yet.
    pub fn new(stage: Arc<Stage>) -> Arc<Self> {
        Arc::new(Self { stage, injections: Injections::default(), numbers: Mutex::default() })
    }

    /// The present numbers.
    pub fn numbers(&self) -> Arc<Numbers> {
        self.numbers.lock().clone()
    }

    /// Serves the page and keeps the numbers, until told to stop; returns the page's address.
    pub async fn serve(
        self: &Arc<Self>,
        at: SocketAddr,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<SocketAddr, StartError> {
        let address = app::serve(at, router(self.clone()), stop, tasks).await?;
        let (board, stop) = (self.clone(), stop.clone());
        tasks.spawn(async move { board.keep(stop).await });
        Ok(address)
    }

    async fn keep(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let before = self.numbers();
            let now = numbers::take(&self.stage, &self.injections, &before).await;
            *self.numbers.lock() = Arc::new(now);
        }
    }
}

fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/", get(async || page()))
        .route("/numbers.json", get(async |State(board): State<Arc<Board>>| Json(board.numbers().as_ref().clone())))
        .route("/harm", post(harm))
        .layer(from_fn(only_loopback))
        .with_state(board)
}

fn page() -> Response {
    // Nothing from outside, and nobody may frame it.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html"))).into_response()
}

/// A name that some web site has pointed at this machine (DNS rebinding) is not answered.
async fn only_loopback(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let name = std::str::from_utf8(host).unwrap_or_default();
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    match name {
        "127.0.0.1" | "localhost" | "[::1]" => next.run(request).await,
        _ => (StatusCode::MISDIRECTED_REQUEST, "ask for 127.0.0.1\n").into_response(),
    }
}

/// What a button does. Only `application/json` is taken, which no other site's page may send.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Press {
    /// An instance (`video-1`) or a service (`video`): all of it.
    target: String,
    harm: Harm,
}

async fn harm(State(board): State<Arc<Board>>, Json(press): Json<Press>) -> Response {
    match board.injections.inject(&board.stage, &press.target, press.harm).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(e @ Error::Unknown(_)) => (StatusCode::NOT_FOUND, format!("{e}\n")).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_needs_nothing_from_outside() {
        let page = include_str!("page.html");
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
