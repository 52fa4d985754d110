//! What one viewer does: log in, look at the home page, watch a title, perhaps subscribe.

use super::Options;
use crate::{
    peers::{CallError, Client, read},
    services::{
        titles::{TITLES, mix},
        video::{SEGMENT_BYTES, bytes_at},
    },
    stats::{Timeline, unix_seconds},
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, RANGE},
};
use serde::Deserialize;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};

/// How long a viewer's device waits for an answer, body included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between a page and the next click.
const THINK: Duration = Duration::from_millis(300);
/// A failed subscription is tried again after so long, so often, as people do, with the same key.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;
/// One viewer out of so many subscribes.
const SUBSCRIBERS: u64 = 5;

/// A person in front of a screen.
pub struct Viewer {
    number: u64,
    seed: u64,
    options: Options,
    client: Client,
    timeline: Arc<Timeline>,
}

#[derive(Deserialize)]
struct Home {
    source: String,
}

#[derive(Deserialize)]
struct Manifest {
    segment_ms: u64,
    segments: Vec<String>,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Viewer {
    /// The viewer of a number; what they do follows from it and from the seed.
    pub fn new(number: u64, options: Options, client: Client, timeline: Arc<Timeline>) -> Self {
        let seed = mix(options.seed ^ mix(number));
        Self { number, seed, options, client, timeline }
    }

    /// The whole visit, from `start`.
    pub async fn watch(self, start: Instant) {
        let user = format!("u{}", self.seed % 10_000);
        let body = json!({ "user": user });
        self.act("login", start, post("/login", &body), |a| a.status == StatusCode::OK).await;
        // A person clicks some time after the page has come: that click is when the next request is meant to start.
        self.home(Instant::now() + THINK, &user).await;
        let subscribes = async {
            if self.seed.is_multiple_of(SUBSCRIBERS) {
                self.subscribe(Instant::now() + THINK, &user).await;
            }
        };
        futures::join!(subscribes, self.play(Instant::now() + THINK, &user));
    }

    async fn home(&self, at: Instant, user: &str) {
        let good = |a: &Answer| a.status == StatusCode::OK;
        let answer = self.act("home", at, get(&format!("/home?user={user}")), good).await;
        let source = answer.and_then(|a| serde_json::from_slice::<Home>(&a.body).ok()).map(|h| h.source);
        if source.is_some_and(|s| s != "personal") {
            self.timeline.count(unix_seconds(), "home_not_personal", 1);
        }
    }

    async fn subscribe(&self, mut at: Instant, user: &str) {
        // The key stays the same over all tries: that is what makes trying again safe.
        let id = format!("{}-{}", self.options.seed, self.number);
        let body = json!({ "user": user, "subscription": id, "cents": 999 });
        for _ in 0..TRIES {
            let mut request = post("/subscribe", &body);
            if let Ok(key) = HeaderValue::try_from(&id) {
                request.headers_mut().insert("idempotency-key", key);
            }
            if self.act("subscribe", at, request, |a| a.status.is_success()).await.is_some() {
                self.timeline.count(unix_seconds(), "subscribed", 1);
                return;
            }
            at = Instant::now() + AGAIN;
        }
        self.timeline.count(unix_seconds(), "subscriptions_lost", 1);
    }

    /// Watches: the manifest, then one segment after the other, each asked for one segment's time ahead.
    async fn play(&self, at: Instant, user: &str) {
        let title = format!("t-{}", mix(self.seed) % u64::from(TITLES));
        let ok = self.play_title(at, &title, user).await;
        // Told when it is over, so that a failure is counted in the second in which it was felt.
        self.timeline.record(unix_seconds(), "play", ok, at.elapsed());
    }

    async fn play_title(&self, at: Instant, title: &str, user: &str) -> bool {
        let uri = format!("/play/{title}?count={}", self.options.segments.max(1));
        let Some(answer) = self.act("manifest", at, get(&uri), |a| a.status == StatusCode::OK).await else {
            return self.failed_start();
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&answer.body) else { return self.failed_start() };
        if !self.segment(Instant::now(), title, 0, manifest.segments.first()).await {
            return self.failed_start();
        }
        let length = Duration::from_millis(manifest.segment_ms);
        let pictures = Instant::now();
        self.timeline.record(unix_seconds(), "start", true, pictures - at);
        let (ok, ()) = futures::join!(
            self.rest(pictures, title, length, &manifest.segments),
            self.heartbeats(pictures, title, user, length * self.options.segments)
        );
        ok
    }

    fn failed_start(&self) -> bool {
        self.timeline.record(unix_seconds(), "start", false, Duration::ZERO);
        false
    }

    async fn rest(&self, pictures: Instant, title: &str, length: Duration, segments: &[String]) -> bool {
        // When the picture would stop if nothing more came.
        let mut runs_dry = pictures + length;
        for (n, path) in (0u32..).zip(segments).skip(1) {
            if !self.segment(runs_dry - length, title, n, Some(path)).await {
                return false;
            }
            let now = Instant::now();
            let stall = now.saturating_duration_since(runs_dry);
            if !stall.is_zero() {
                self.timeline.count(unix_seconds(), "rebuffers", 1);
                self.timeline.count(unix_seconds(), "rebuffer_ms", stall.as_millis() as u64);
            }
            runs_dry = runs_dry.max(now) + length;
        }
        true
    }

    async fn segment(&self, at: Instant, title: &str, n: u32, path: Option<&String>) -> bool {
        let Some(path) = path else { return false };
        let length = self.options.segment_bytes.clamp(1, SEGMENT_BYTES);
        let mut request = get(path);
        if let Ok(range) = HeaderValue::try_from(format!("bytes=0-{}", length - 1)) {
            request.headers_mut().insert(RANGE, range);
        }
        let good = |a: &Answer| a.status == StatusCode::PARTIAL_CONTENT && a.body == bytes_at(title, n, 0..length);
        self.act("segment", at, request, good).await.is_some()
    }

    async fn heartbeats(&self, pictures: Instant, title: &str, user: &str, length: Duration) {
        let every = Duration::from_secs(1);
        let mut at = pictures;
        while at < pictures + length {
            let body = json!({ "user": user, "title": title, "position_ms": (at - pictures).as_millis() as u64 });
            self.act("heartbeat", at, post("/heartbeat", &body), |a| a.status == StatusCode::ACCEPTED).await;
            at += every;
        }
    }

    /// One request, meant to start at `at`; the answer if it was good.
    async fn act(
        &self,
        kind: &str,
        at: Instant,
        request: Request<Bytes>,
        good: impl Fn(&Answer) -> bool,
    ) -> Option<Answer> {
        sleep_until(at).await;
        let second = unix_seconds().saturating_sub(at.elapsed().as_secs());
        let answer = match timeout(PATIENCE, self.exchange(request)).await {
            Ok(Ok(answer)) if good(&answer) => Some(answer),
            _ => None,
        };
        self.timeline.record(second, kind, answer.is_some(), at.elapsed());
        answer
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, CallError> {
        let (head, body) = self.client.send("web", request, PATIENCE).await?.into_parts();
        let body = read(body, SEGMENT_BYTES as usize).await.map_err(|e| CallError::Unreadable("web".into(), e))?;
        Ok(Answer { status: head.status, body })
    }
}

fn get(path: &str) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
}

fn post(path: &str, body: &serde_json::Value) -> Request<Bytes> {
    let mut request = get(path).map(|_| Bytes::from(body.to_string()));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}
