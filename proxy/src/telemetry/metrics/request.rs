//! The handle of requests with one set of labels, and the small table that finds the counter of an outcome.

use super::Metrics;
use crate::{
    error::Kind,
    telemetry::{
        record::{Direction, Protocol},
        registry::{Counter, Family, Gauge, Histogram},
    },
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// What a request is counted under, besides how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// Which side.
    pub direction: Direction,
    /// What the client speaks.
    pub protocol: Protocol,
    /// The client's workload identity for people, `<namespace>/<service-account>`; empty if it is not known.
    pub source: Arc<str>,
    /// The cluster (outbound), or the chain (inbound); empty if none was found.
    pub destination: Arc<str>,
    /// The route's name; empty if none was found.
    pub route: Arc<str>,
    /// Whether the mesh connection is mutual TLS.
    pub tls: bool,
}

/// The handle. Two counters and three histograms per request, atomics only.
#[derive(Debug)]
pub struct RequestMetrics {
    labels: RequestLabels,
    family: Arc<Family<Counter, 9>>,
    outcomes: Outcomes,
    duration: Arc<Histogram>,
    first_byte: Arc<Histogram>,
    overhead: Arc<Histogram>,
    inflight: Arc<Gauge>,
    used: AtomicBool,
}

impl RequestMetrics {
    pub(super) fn new(metrics: &Metrics, labels: &RequestLabels) -> Self {
        let direction: Arc<str> = labels.direction.as_str().into();
        let (destination, route) = (labels.destination.clone(), labels.route.clone());
        Self {
            labels: labels.clone(),
            family: metrics.requests.clone(),
            outcomes: Outcomes::default(),
            duration: metrics.durations.with([direction.clone(), destination.clone(), route]),
            first_byte: metrics.first_bytes.with([direction.clone(), destination]),
            overhead: metrics.overhead.with([direction.clone()]),
            inflight: metrics.inflight.with([direction]),
            used: AtomicBool::new(true),
        }
    }

    /// A request is under way until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        self.inflight.add(1.0);
        InFlight(self.inflight.clone())
    }

    /// The response's headers are on their way to the client: how long that took, and how much of it was our own doing.
    pub fn answered(&self, took: Duration, overhead: Duration) {
        self.first_byte.observe(took);
        self.overhead.observe(overhead);
    }

    /// The response has ended. `status` 0: there was none.
    pub fn ended(&self, status: u16, grpc_status: Option<u8>, reason: Option<Kind>, took: Duration) {
        self.used.store(true, Relaxed);
        self.duration.observe(took);
        let grpc = grpc_status.map_or(0, |code| u32::from(code.min(16)) + 1);
        let why = reason.map_or(0, |kind| kind.index() as u32 + 1);
        let key = u32::from(status.min(1_000)) << 16 | grpc << 8 | why;
        self.outcomes.count(key, || self.series(status, grpc_status, reason));
    }

    fn series(&self, status: u16, grpc_status: Option<u8>, reason: Option<Kind>) -> Arc<Counter> {
        let l = &self.labels;
        let grpc = match grpc_status {
            None => String::new(),
            Some(code) if code <= 16 => code.to_string(),
            Some(_) => "other".to_owned(),
        };
        let code = if (100..600).contains(&status) || status == 0 { status.to_string() } else { "other".to_owned() };
        self.family.with([
            l.direction.as_str().into(),
            l.protocol.as_str().into(),
            code.into(),
            grpc.into(),
            reason.map_or("", Kind::reason).into(),
            l.source.clone(),
            l.destination.clone(),
            l.route.clone(),
            if l.tls { "mutual" } else { "none" }.into(),
        ])
    }

    /// Whether it counted something since this was last asked.
    pub(super) fn was_used_since_asked(&self) -> bool {
        self.used.swap(false, Relaxed)
    }
}

/// A request under way.
#[derive(Debug)]
#[must_use = "the request counts as under way until the guard is dropped"]
pub struct InFlight(Arc<Gauge>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

/// The counters of the outcomes met so far, by a number. The first few are found without a lock: an outcome keeps the
/// place that it has taken. The others are looked up in the family each time.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    first: [OnceLock<(u32, Arc<Counter>)>; 12],
}

impl Outcomes {
    /// Counts one; `series` finds the counter the first time.
    pub(super) fn count(&self, key: u32, series: impl Fn() -> Arc<Counter>) {
        for place in &self.first {
            let (taken_by, counter) = place.get_or_init(|| (key, series()));
            if *taken_by == key {
                counter.inc();
                return;
            }
        }
        series().inc();
    }
}
