//! The handle of requests that take one route to one destination.

use super::{Metrics, cache::Cache};
use crate::{
    error::Kind,
    telemetry::{
        record::{Direction, Protocol, RequestRecord},
        registry::{Counter, Family, Gauge, Histogram},
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use weir_config::model::SpiffeId;

/// What is known of requests when the configuration is built.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteLabels {
    /// Which side.
    pub direction: Direction,
    /// This sidecar's workload identity for people, `<namespace>/<service-account>`: the source of what is outbound.
    /// The source of what is inbound is in the caller's certificate.
    pub workload: Arc<str>,
    /// The cluster (outbound), or the chain (inbound); empty if none was found.
    pub destination: Arc<str>,
    /// The route's name; empty if none was found.
    pub route: Arc<str>,
    /// Whether the mesh connection is mutual TLS.
    pub tls: bool,
}

/// The handle. A counter and three histograms per request: atomics only, unless an outcome is seen for the first time.
#[derive(Debug)]
pub struct RequestMetrics {
    labels: RouteLabels,
    family: Arc<Family<Counter, 9>>,
    outcomes: Cache<Outcome>,
    duration: Arc<Histogram>,
    first_byte: Arc<Histogram>,
    overhead: Arc<Histogram>,
    used: AtomicBool,
}

/// How a request ended, and whose it was. The source is known from the labels where it is outbound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Outcome {
    protocol: Protocol,
    status: u16,
    grpc: Option<u8>,
    reason: Option<Kind>,
    source: Option<SpiffeId>,
}

impl RequestMetrics {
    pub(super) fn new(metrics: &Metrics, labels: &RouteLabels) -> Self {
        let direction: Arc<str> = labels.direction.as_str().into();
        let (destination, route) = (labels.destination.clone(), labels.route.clone());
        Self {
            labels: labels.clone(),
            family: metrics.requests.clone(),
            outcomes: Cache::default(),
            duration: metrics.durations.with([direction.clone(), destination.clone(), route]),
            first_byte: metrics.first_bytes.with([direction.clone(), destination]),
            overhead: metrics.overhead.with([direction]),
            used: AtomicBool::new(true),
        }
    }

    /// Counts a request that has ended.
    pub fn request(&self, record: &RequestRecord) {
        self.used.store(true, Relaxed);
        self.duration.observe(record.duration);
        if let Some(took) = record.time_to_headers {
            self.first_byte.observe(took);
        }
        if let Some(took) = record.overhead {
            self.overhead.observe(took);
        }
        let inbound = self.labels.direction == Direction::Inbound;
        let source = record.source_identity.as_ref().filter(|_| inbound);
        let status = record.status.unwrap_or(0);
        self.outcomes.count(
            |o| {
                o.status == status
                    && o.reason == record.reason
                    && o.grpc == record.grpc_status
                    && o.protocol == record.protocol
                    && o.source.as_ref() == source
            },
            || Outcome {
                protocol: record.protocol,
                status,
                grpc: record.grpc_status,
                reason: record.reason,
                source: source.cloned(),
            },
            |outcome| self.series(outcome),
        );
    }

    fn series(&self, outcome: &Outcome) -> Arc<Counter> {
        let l = &self.labels;
        let code = match outcome.status {
            status @ (0 | 100..600) => status.to_string(),
            _ => "other".to_owned(),
        };
        let grpc = match outcome.grpc {
            None => String::new(),
            Some(code @ 0..=16) => code.to_string(),
            Some(_) => "other".to_owned(),
        };
        let source = match l.direction {
            Direction::Outbound => l.workload.clone(),
            Direction::Inbound => outcome.source.as_ref().map_or_else(|| "".into(), for_people),
        };
        // Between the sidecars, that is: who has shown an identity has come by it, and the way on to the application is plain.
        let mutual = match l.direction {
            Direction::Outbound => l.tls,
            Direction::Inbound => outcome.source.is_some(),
        };
        self.family.with([
            l.direction.as_str().into(),
            outcome.protocol.as_str().into(),
            code.into(),
            grpc.into(),
            outcome.reason.map_or("", Kind::reason).into(),
            source,
            l.destination.clone(),
            l.route.clone(),
            if mutual { "mutual" } else { "none" }.into(),
        ])
    }

    /// Whether it counted something since this was last asked.
    pub(super) fn was_used_since_asked(&self) -> bool {
        self.used.swap(false, Relaxed)
    }
}

/// `<namespace>/<service-account>`; the whole identity if it has another form.
fn for_people(id: &SpiffeId) -> Arc<str> {
    match (id.namespace(), id.service_account()) {
        (Some(namespace), Some(account)) => format!("{namespace}/{account}").into(),
        _ => id.to_string().into(),
    }
}

/// A request under way.
#[derive(Debug)]
#[must_use = "the request counts as under way until the guard is dropped"]
pub struct InFlight(Arc<Gauge>);

impl InFlight {
    pub(super) fn new(gauge: Arc<Gauge>) -> Self {
        gauge.add(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}
