//! The record of one request while it is being filled: shared by the stages, and told (metrics, access log) once, at the
//! very end: when the response's last byte has gone, when it was refused, or when the caller went away.

use crate::{
    body::{End, Finish},
    connection::Connection,
    error::{Error, Kind},
    given_back, reply,
    stage::Response,
    state::{Chosen, Endpoint},
    telemetry::{
        AccessLog, Attempt, InFlight, Metrics, Protocol, RequestMetrics, RequestRecord, record::AttemptResult,
    },
};
use http::{HeaderMap, HeaderName, Version, header::USER_AGENT};
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Begins records.
#[derive(Clone)]
pub struct Recorder(Arc<Told>);

/// Where it is told.
struct Told {
    metrics: Arc<Metrics>,
    log: Arc<AccessLog>,
}

/// What the stages know of a request.
pub struct Facts {
    /// What is told.
    pub told: RequestRecord,
    /// What is counted, once the destination is known.
    pub metrics: Option<Arc<RequestMetrics>>,
    /// The endpoint of the last try.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Its slot.
    pub slot: Option<usize>,
    /// Tries so far.
    pub tries: u32,
    /// Time spent on purpose (injected delays, back-off), which is not our slowness.
    pub waited: Duration,
    /// Whether somebody reads the words (the log is on): if not, they are not gathered.
    pub in_words: bool,
    start: Instant,
    grpc: bool,
    _in_flight: InFlight,
}

/// A shared hold on the facts.
#[derive(Clone)]
pub struct Record(Arc<Shared>);

struct Shared {
    facts: Mutex<Facts>,
    recorder: Recorder,
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Recorder {
    /// Tells to these.
    pub fn new(metrics: Arc<Metrics>, log: Arc<AccessLog>) -> Self {
        Self(Arc::new(Told { metrics, log }))
    }

    /// A request has come.
    pub fn begin<B>(&self, request: &http::Request<B>, grpc: bool, connection: &Connection) -> Record {
        let protocol = match request.version() {
            Version::HTTP_2 if grpc => Protocol::Grpc,
            Version::HTTP_2 => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let in_words = self.0.log.is_on();
        // The time of day is told in words only.
        let time = if in_words { SystemTime::now() } else { SystemTime::UNIX_EPOCH };
        let mut told =
            RequestRecord::new(time, connection.direction, protocol, request.method().clone(), request.uri().clone());
        if in_words {
            let text = |name: &HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).map(Arc::from);
            told.user_agent = text(&USER_AGENT);
            told.forwarded_for = text(&X_FORWARDED_FOR);
            told.authority = text(&http::header::HOST).or_else(|| request.uri().authority().map(|a| a.as_str().into()));
            told.server_name = connection.sni.clone();
            told.tls_version = connection.tls.then_some("TLSv1.3");
        }
        told.peer = Some(connection.peer);
        told.source_identity = connection.identity.clone();
        self.record(told, in_words, grpc)
    }

    /// A connection of bytes has come.
    pub fn bytes(&self, connection: &Connection) -> Record {
        let mut told = RequestRecord::new(
            SystemTime::now(),
            connection.direction,
            Protocol::Tcp,
            http::Method::CONNECT,
            http::Uri::default(),
        );
        told.peer = Some(connection.peer);
        told.source_identity = connection.identity.clone();
        self.record(told, self.0.log.is_on(), false)
    }

    fn record(&self, told: RequestRecord, in_words: bool, grpc: bool) -> Record {
        let direction = told.direction;
        let facts = Facts {
            told,
            metrics: None,
            endpoint: None,
            slot: None,
            tries: 0,
            waited: Duration::ZERO,
            in_words,
            start: Instant::now(),
            grpc,
            _in_flight: self.0.metrics.begin(direction),
        };
        Record(Arc::new(Shared { facts: Mutex::new(facts), recorder: self.clone() }))
    }
}

impl Record {
    /// Reads or writes the facts. Short: other stages wait.
    pub fn with<T>(&self, f: impl FnOnce(&mut Facts) -> T) -> T {
        f(&mut self.0.facts.lock())
    }

    /// When the request's headers had come.
    pub fn begun(&self) -> tokio::time::Instant {
        self.with(|facts| facts.start).into()
    }

    /// Sees to it that the end is told, whatever it will be.
    pub fn watch(self) -> Watched {
        Watched { record: Some(self) }
    }

    /// The request has its response.
    pub fn answered(self, response: Response) -> Response {
        self.watch().answered(response)
    }

    /// The request is answered by ourselves.
    pub fn refused(self, error: &Error, grpc: bool) -> Response {
        self.watch().refused(error, grpc)
    }
}

impl Shared {
    fn tell(&self) {
        given_back::ended();
        let mut facts = self.facts.lock();
        facts.told.duration = facts.start.elapsed();
        let Told { metrics, log } = &*self.recorder.0;
        match facts.metrics.take() {
            Some(route) => route.request(&facts.told),
            None => metrics.unrouted(&facts.told),
        }
        if facts.in_words && log.wants(&facts.told, rand::random()) {
            log.write(Box::new(facts.told.clone()));
        }
    }
}

/// A record whose end will be told.
pub struct Watched {
    record: Option<Record>,
}

impl Watched {
    /// The response has come; its end is told when its last byte has gone.
    pub fn answered(mut self, mut response: Response) -> Response {
        if let Some(record) = &self.record {
            record.with(|facts| facts.answered(&response));
        }
        if let Some(Record(shared)) = self.record.take() {
            response.body_mut().hold().finish.push(shared);
        }
        response
    }

    /// There is no response: the error becomes one.
    pub fn refused(self, error: &Error, grpc: bool) -> Response {
        if let Some(record) = &self.record {
            record.with(|facts| facts.failed(error));
        }
        self.answered(reply::error(error, grpc))
    }
}

impl Facts {
    /// A try begins at an endpoint; returns its number, from 1.
    pub fn try_begins(&mut self, chosen: &Chosen, now: Instant) -> u32 {
        self.told.attempts.push(Attempt {
            endpoint: Some(chosen.endpoint.address),
            workload: chosen.endpoint.workload.clone(),
            began: now.saturating_duration_since(self.start),
            took: Duration::ZERO,
            result: AttemptResult::Failed(Kind::ClientDisconnected),
            connection_reused: false,
            panicking: chosen.panicking,
        });
        self.endpoint = Some(chosen.endpoint.clone());
        self.slot = Some(chosen.slot);
        self.tries
    }

    /// The try that took so long has its outcome.
    pub fn try_ends(&mut self, took: Duration, result: AttemptResult) {
        if let Some(last) = self.told.attempts.last_mut() {
            last.took = took;
            last.result = result;
        }
    }

    fn answered(&mut self, response: &Response) {
        let elapsed = self.start.elapsed();
        self.told.status = Some(response.status().as_u16());
        self.told.time_to_headers = Some(elapsed);
        let tries: Duration = self.told.attempts.iter().map(|a| a.took).sum();
        self.told.overhead = Some(elapsed.saturating_sub(tries + self.waited));
        if self.grpc {
            self.told.grpc_status = grpc_status(response.headers());
        }
    }

    fn failed(&mut self, error: &Error) {
        self.told.reason = Some(error.kind());
        if self.in_words {
            self.told.reason_details = error.details().map(Into::into);
        }
    }
}

impl Finish for Shared {
    fn finish(&self, end: End, bytes: u64, trailers: Option<&HeaderMap>) {
        let mut facts = self.facts.lock();
        facts.told.bytes_sent = bytes;
        match end {
            End::Complete => {}
            End::Failed(kind) => facts.told.reason = Some(kind),
            End::Abandoned => facts.told.reason = Some(Kind::ClientDisconnected),
        }
        if let Some(code) = trailers.filter(|_| facts.grpc).and_then(grpc_status) {
            facts.told.grpc_status = Some(code);
        }
        drop(facts);
        self.tell();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.with(|facts| facts.told.reason = Some(Kind::ClientDisconnected));
            record.0.tell();
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
