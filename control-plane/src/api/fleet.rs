//! What became of changes, and the proxies: `/api/v1/changes`, `/api/v1/changes/{version}?wait=30s`, `/api/v1/proxies`.

use super::{
    Api,
    problem::{ApiError, Result},
    types::{Change, ChangeList, Problem, ProxyList},
};
use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use serde::Deserialize;
use std::time::Duration;
use utoipa::IntoParams;

/// The longest `?wait=`.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(300);

/// Options of a change's status.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitOptions {
    /// Answer when no connected proxy is left that has neither applied nor refused the change, or after this time
    /// (`30s`, `500ms`, at most `5m`), whichever is first.
    wait: Option<String>,
}

/// All proxies that are or were connected.
#[utoipa::path(get, path = "/api/v1/proxies", tag = "status", responses((status = 200, body = ProxyList)))]
pub(super) async fn proxies(State(api): State<Api>) -> Json<ProxyList> {
    Json(ProxyList { items: api.fleet.proxies() })
}

/// The last changes, the newest first.
#[utoipa::path(get, path = "/api/v1/changes", tag = "status", responses((status = 200, body = ChangeList)))]
pub(super) async fn changes(State(api): State<Api>) -> Json<ChangeList> {
    Json(ChangeList { items: api.fleet.changes() })
}

/// What became of one change: on how many proxies it is applied, and how fast.
#[utoipa::path(get, path = "/api/v1/changes/{version}", tag = "status",
    params(("version" = u64, Path, description = "as the apply said"), WaitOptions),
    responses((status = 200, body = Change), (status = 404, body = Problem)))]
pub(super) async fn change(
    State(api): State<Api>,
    path: Result<Path<u64>, PathRejection>,
    options: Result<Query<WaitOptions>, QueryRejection>,
) -> Result<Json<Change>> {
    let Path(version) = path?;
    let wait = match &options?.wait {
        Some(text) => crate::duration::parse(text).map_err(ApiError::bad_request)?.min(MAX_WAIT),
        None => Duration::ZERO,
    };
    let deadline = tokio::time::Instant::now() + wait;
    let mut news = api.fleet.watch();
    loop {
        news.borrow_and_update();
        let now = api.fleet.change(version);
        // A change that was just stored may be known to the fleet a moment later.
        let coming = now.is_none() && version <= api.store.snapshot().version();
        if now.as_ref().is_some_and(|c| c.complete) || (now.is_none() && !coming) {
            return now.map(Json).ok_or_else(|| unknown(version));
        }
        match tokio::time::timeout_at(deadline, news.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return now.map(Json).ok_or_else(|| unknown(version)),
        }
    }
}

fn unknown(version: u64) -> ApiError {
    ApiError::not_found(format!("nothing is known of change {version}: it has not been made, or was too long ago"))
}
