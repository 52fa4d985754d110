//! `web`: the home page and the player's way to everything else. Like many servers it has a fixed number of workers; one
//! that waits for a slow service is not there for the next viewer.
//!
//! What it knows about failure is what most applications know: a timeout on each call, and popular titles where there
//! are no personal ones. Its gRPC calls are given all the time that the home page has, which leaves nothing for the
//! fallback: a common mistake, and one that the mesh can mend from outside.

use super::{
    playback::Manifest,
    titles::{Title, title},
};
use crate::{
    app::{Context, Parts},
    peers::{CallError, Client, HTTP_TIMEOUT},
    proto,
    stats::{Timeline, unix_seconds},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, StatusCode, Uri,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the home page promises.
pub const HOME_DEADLINE: Duration = Duration::from_millis(800);
/// Requests that one instance works on at once; more wait.
const WORKERS: usize = 32;
/// How many titles the home page recommends.
const SHOWN: u32 = 10;
/// The most that a flood may send, and for how long.
const FLOOD_PER_SECOND: u32 = 5000;
const FLOOD_SECONDS: u32 = 600;

struct Web {
    client: Client,
    workers: Semaphore,
    timeline: Arc<Timeline>,
    stop: CancellationToken,
    floods: TaskTracker,
}

type Shared = Arc<Web>;

pub(super) fn build(context: Context) -> Parts {
    let Context { client, timeline, stop, .. } = context;
    let web = Arc::new(Web { client, workers: Semaphore::new(WORKERS), timeline, stop, floods: TaskTracker::new() });
    let router = Router::new()
        .route("/login", post(login))
        .route("/home", get(home))
        .route("/play/{title}", get(play))
        .route("/segments/{title}/{n}", get(segment))
        .route("/heartbeat", post(heartbeat))
        .route("/subscribe", post(subscribe))
        .layer(from_fn_with_state(web.clone(), work))
        .with_state(web.clone());
    Parts { router, admin: Router::new().route("/__flood", post(flood)).with_state(web) }
}

async fn work(State(web): State<Shared>, request: Request, next: Next) -> Response {
    if web.workers.available_permits() == 0 {
        web.timeline.count(unix_seconds(), "waited_for_worker", 1);
    }
    let Ok(_worker) = web.workers.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    next.run(request).await
}

/// Who is watching.
#[derive(Debug, Deserialize)]
struct Viewer {
    user: String,
}

async fn login(State(web): State<Shared>, Json(viewer): Json<Viewer>) -> Response {
    match profile(&web.client, viewer.user).await {
        Ok(p) => Json(serde_json::json!({ "user": p.user, "name": p.name })).into_response(),
        Err(e) => (StatusCode::BAD_GATEWAY, format!("profiles: {}\n", e.message())).into_response(),
    }
}

async fn profile(client: &Client, user: String) -> Result<proto::Profile, tonic::Status> {
    client.grpc("profiles", proto::PROFILES_GET, proto::ProfileRequest { user }, HOME_DEADLINE).await
}

/// What the home page shows.
#[derive(Debug, Serialize, Deserialize)]
struct Home {
    name: String,
    /// `personal`, `popular` (the catalogue's), or `built_in`.
    source: &'static str,
    recommended: Vec<String>,
    rows: BTreeMap<String, Vec<Title>>,
}

async fn home(State(web): State<Shared>, Query(viewer): Query<Viewer>) -> Response {
    // Without a profile the page greets nobody and the recommendations are general.
    let profile = profile(&web.client, viewer.user.clone()).await.unwrap_or_default();
    let rows = web.client.json("catalog", request("/rows"));
    let ((source, recommended), rows) = futures::join!(recommended(&web.client, &viewer.user, profile.tastes), rows);
    match rows {
        Ok(rows) => Json(Home { name: profile.name, source, recommended, rows }).into_response(),
        Err(e) => failed(&e),
    }
}

async fn recommended(client: &Client, user: &str, tastes: Vec<String>) -> (&'static str, Vec<String>) {
    let ask = proto::RecommendationsRequest { user: user.to_owned(), tastes, limit: SHOWN };
    let answer =
        client.grpc::<_, proto::Recommendations>("recommendations", proto::RECOMMENDATIONS_LIST, ask, HOME_DEADLINE);
    if let Ok(list) = answer.await {
        return ("personal", list.titles);
    }
    match client.json::<Vec<Title>>("catalog", request("/popular")).await {
        Ok(popular) => ("popular", popular.into_iter().map(|t| t.id).collect()),
        Err(_) => ("built_in", (0..SHOWN).map(|n| title(n).id).collect()),
    }
}

async fn play(State(web): State<Shared>, Path(title): Path<String>, uri: Uri) -> Response {
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    match web.client.json::<Manifest>("playback", request(&format!("/manifest/{title}{query}"))).await {
        Ok(manifest) => Json(manifest).into_response(),
        Err(e) => failed(&e),
    }
}

async fn segment(State(web): State<Shared>, Path((title, n)): Path<(String, u32)>, headers: HeaderMap) -> Response {
    let mut request = request(&format!("/segments/{title}/{n}"));
    if let Some(range) = headers.get(RANGE) {
        request.headers_mut().insert(RANGE, range.clone());
    }
    relay(web.client.send("video", request, HTTP_TIMEOUT).await, &[CONTENT_TYPE, CONTENT_LENGTH, CONTENT_RANGE])
}

/// The player does not care what becomes of a heartbeat, but a worker does the posting.
async fn heartbeat(State(web): State<Shared>, body: Bytes) -> StatusCode {
    match web.client.send("analytics", post_json("/events", body), HTTP_TIMEOUT).await {
        Ok(r) if r.status().is_success() => StatusCode::ACCEPTED,
        _ => {
            web.timeline.count(unix_seconds(), "heartbeats_lost", 1);
            StatusCode::ACCEPTED
        }
    }
}

async fn subscribe(State(web): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let key = HeaderName::from_static("idempotency-key");
    let mut request = post_json("/charges", body);
    if let Some(value) = headers.get(&key) {
        request.headers_mut().insert(key, value.clone());
    }
    relay(web.client.send("billing", request, HTTP_TIMEOUT).await, &[CONTENT_TYPE, CONTENT_LENGTH])
}

fn relay(answer: Result<http::Response<hyper::body::Incoming>, CallError>, headers: &[HeaderName]) -> Response {
    let answer = match answer {
        Ok(answer) => answer,
        Err(e) => return failed(&e),
    };
    let (head, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = head.status;
    for name in headers {
        if let Some(value) = head.headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn failed(error: &CallError) -> Response {
    let status = match error {
        CallError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        CallError::Status(_, status) if status.is_client_error() => *status,
        _ => StatusCode::BAD_GATEWAY,
    };
    (status, format!("{error}\n")).into_response()
}

fn request(path: &str) -> http::Request<Bytes> {
    let mut request = http::Request::new(Bytes::new());
    // A path that is none becomes `/`, which nobody serves: 404, as it should be.
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
}

fn post_json(path: &str, body: Bytes) -> http::Request<Bytes> {
    let mut request = request(path).map(|_| body);
    *request.method_mut() = http::Method::POST;
    request.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    request
}

/// A batch job gone mad: so many events to `analytics`, as long as it is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// Events a second.
    pub per_second: u32,
    /// For so long.
    pub seconds: u32,
}

async fn flood(State(web): State<Shared>, Json(flood): Json<Flood>) -> Response {
    if flood.per_second == 0 || flood.per_second > FLOOD_PER_SECOND || flood.seconds > FLOOD_SECONDS {
        return (StatusCode::BAD_REQUEST, "1 to 5000 per_second, at most 600 seconds\n").into_response();
    }
    web.floods.clone().spawn(pour(web, flood));
    StatusCode::ACCEPTED.into_response()
}

async fn pour(web: Shared, flood: Flood) {
    let event = Bytes::from_static(br#"{"user":"batch","title":"t-0","position_ms":0}"#);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / flood.per_second);
    // Calls under way are bounded: an event that finds no place is dropped.
    let places = Arc::new(Semaphore::new(2000));
    for _ in 0..u64::from(flood.per_second) * u64::from(flood.seconds) {
        tokio::select! {
            _ = tick.tick() => {}
            () = web.stop.cancelled() => return,
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            web.timeline.count(unix_seconds(), "flood_dropped", 1);
            continue;
        };
        let (client, event) = (web.client.clone(), event.clone());
        tokio::spawn(async move {
            let _ = client.send("analytics", post_json("/events", event), HTTP_TIMEOUT).await;
            drop(place);
        });
    }
}
