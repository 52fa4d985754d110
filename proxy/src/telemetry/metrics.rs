//! All metrics of the proxy, by name. Handles for one set of labels are made when the configuration is built (or a
//! connection accepted) and kept there; per request only atomics are touched.
//!
//! What is a state of the configuration and not an event (endpoints by state, what is left of a retry budget, the
//! version) is told at the scrape by whoever holds that state: [`Metrics::add_source`].

mod cache;
mod cluster;
mod request;
mod tcp;

pub use cluster::{Carried, ClusterMetrics};
pub use request::{InFlight, RequestMetrics, RouteLabels};

use super::{
    exposition::Exposition,
    process,
    record::{Direction, RequestRecord},
    registry::{Cap, Counter, Family, Gauge, Histogram, Metric, OVERHEAD_SECONDS, REQUEST_SECONDS},
};
use cache::Cache;
use parking_lot::RwLock;
use std::{collections::HashMap, fmt, sync::Arc, time::Instant};

/// How many series there may be, unless something else is said.
pub const DEFAULT_SERIES: usize = 10_000;

/// The metrics of one process.
pub struct Metrics {
    cap: Arc<Cap>,
    handles: RwLock<HashMap<RouteLabels, Arc<RequestMetrics>>>,
    sources: RwLock<Vec<Source>>,

    requests: Arc<Family<Counter, 9>>,
    durations: Family<Histogram, 3>,
    first_bytes: Family<Histogram, 2>,
    overhead: Family<Histogram, 1>,
    inflight: [Arc<Gauge>; 2],
    attempts: Arc<Family<Counter, 3>>,
    transitions: Family<Counter, 3>,
    shed: Family<Counter, 1>,
    authz: Family<Counter, 2>,
    decisions: Cache<(AuthzDecision, Box<str>)>,
    refused: Family<Counter, 2>,
    tcp: [tcp::Tcp; 2],
    destinations: Arc<Family<Counter, 2>>,
    detected: Family<Counter, 3>,
    rejected: Family<Counter, 1>,
    apply: Family<Histogram, 0>,

    /// Log lines that could not be written.
    pub access_log_dropped: Arc<Counter>,
    /// When the sidecar's own certificate ends, since the epoch.
    pub certificate_expiration: Gauge,
    /// Certificates received.
    pub certificate_renewals: Counter,
    /// Attempts to get a certificate that failed.
    pub certificate_failures: Counter,
    /// 1 while the stream to the control plane stands.
    pub control_plane_connected: Gauge,
}

type Source = Box<dyn Fn(&mut Exposition) + Send + Sync>;

impl Metrics {
    /// All at nought. At most `series` of them.
    pub fn new(series: usize) -> Arc<Self> {
        let cap = Cap::new(series);
        let c = &cap;
        Arc::new(Self {
            requests: Arc::new(Family::new(c, "weir_requests_total", "Requests.", REQUEST_LABELS, Counter::default)),
            durations: Family::new(
                c,
                "weir_request_duration_seconds",
                "Time from a request's headers to the end of its response.",
                ["direction", "destination", "route"],
                request_histogram,
            ),
            first_bytes: Family::new(
                c,
                "weir_time_to_first_byte_seconds",
                "Time from a request's headers to its response's.",
                ["direction", "destination"],
                request_histogram,
            ),
            overhead: Family::new(
                c,
                "weir_proxy_overhead_seconds",
                "Time to the response's headers that the proxy itself took.",
                ["direction"],
                || Histogram::new(OVERHEAD_SECONDS),
            ),
            inflight: Default::default(),
            attempts: Arc::new(Family::new(
                c,
                "weir_attempts_total",
                "Attempts to get an answer, by their number (1, 2, 3+).",
                ["destination", "attempt", "outcome"],
                Counter::default,
            )),
            transitions: Family::new(
                c,
                "weir_breaker_transitions_total",
                "Endpoints that were ejected, or returned.",
                ["destination", "to", "cause"],
                Counter::default,
            ),
            shed: Family::new(
                c,
                "weir_shed_total",
                "Requests and connections that were refused to protect somebody.",
                ["reason"],
                Counter::default,
            ),
            authz: Family::new(
                c,
                "weir_authz_total",
                "Decisions of authorisation.",
                ["decision", "policy"],
                Counter::default,
            ),
            refused: Family::new(
                c,
                "weir_connections_refused_total",
                "Connections that were refused before any request.",
                ["direction", "reason"],
                Counter::default,
            ),
            tcp: Default::default(),
            destinations: Arc::new(tcp::destinations(c)),
            detected: tcp::detected(c),
            rejected: Family::new(
                c,
                "weir_config_rejected_total",
                "Resources of the control plane that were refused.",
                ["kind"],
                Counter::default,
            ),
            apply: Family::new(
                c,
                "weir_config_apply_duration_seconds",
                "Time to build and swap in a snapshot.",
                [],
                || Histogram::new(OVERHEAD_SECONDS),
            ),
            access_log_dropped: Arc::default(),
            certificate_expiration: Gauge::default(),
            certificate_renewals: Counter::default(),
            certificate_failures: Counter::default(),
            control_plane_connected: Gauge::default(),
            decisions: Cache::default(),
            handles: RwLock::default(),
            sources: RwLock::default(),
            cap,
        })
    }

    /// The handle of a route to a destination. Looked up under a lock: kept in the snapshot.
    pub fn route(&self, labels: RouteLabels) -> Arc<RequestMetrics> {
        if let Some(found) = self.handles.read().get(&labels) {
            return found.clone();
        }
        let mut handles = self.handles.write();
        if handles.len() >= self.cap.max() {
            handles.retain(|_, handle| Arc::strong_count(handle) > 1);
        }
        let made = Arc::new(RequestMetrics::new(self, &labels));
        if handles.len() < self.cap.max() {
            handles.insert(labels, made.clone());
        }
        made
    }

    /// Counts a request that found no route.
    pub fn unrouted(&self, record: &RequestRecord) {
        let none = || Arc::from("");
        let labels = RouteLabels {
            direction: record.direction,
            workload: none(),
            destination: none(),
            route: none(),
            tls: record.tls_version.is_some(),
        };
        self.route(labels).request(record);
    }

    /// A request is under way until the guard is dropped.
    pub fn begin(&self, direction: Direction) -> InFlight {
        InFlight::new(self.inflight[direction as usize].clone())
    }

    /// How many are under way.
    pub fn inflight(&self, direction: Direction) -> f64 {
        self.inflight[direction as usize].value()
    }

    /// The handle of one destination's attempts and breakers.
    pub fn cluster(&self, destination: &Arc<str>) -> Arc<ClusterMetrics> {
        Arc::new(ClusterMetrics::new(self, destination))
    }

    /// A connection was refused before any request; `reason` is a reason token.
    pub fn connection_refused(&self, direction: Direction, reason: &'static str) {
        self.refused.of([direction.as_str(), reason]).inc();
    }

    /// What a captured connection speaks, and how that was told.
    pub fn detected(&self, direction: Direction, result: &'static str, method: &'static str) {
        self.detected.of([direction.as_str(), result, method]).inc();
    }

    /// Something was refused to protect somebody: which limit.
    pub fn shed(&self, reason: &'static str) {
        self.shed.of([reason]).inc();
    }

    /// A policy has decided.
    pub fn authz(&self, decision: AuthzDecision, policy: &str) {
        self.decisions.count(
            |(d, p)| *d == decision && **p == *policy,
            || (decision, policy.into()),
            |_| self.authz.of([decision.as_str(), policy]),
        );
    }

    /// A resource of the control plane was refused.
    pub fn config_rejected(&self, kind: &str) {
        self.rejected.of([kind]).inc();
    }

    /// A snapshot was built and swapped in.
    pub fn config_applied(&self) -> Arc<Histogram> {
        self.apply.with([])
    }

    /// Has a state told at each scrape.
    pub fn add_source(&self, source: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.sources.write().push(Box::new(source));
    }

    /// The text for `/metrics`.
    pub fn tell(&self, now: Instant) -> String {
        let mut out = Exposition::default();
        self.handles.write().retain(|_, handle| Arc::strong_count(handle) > 1 || handle.was_used_since_asked());
        self.requests.tell(now, &mut out);
        self.durations.tell(now, &mut out);
        self.first_bytes.tell(now, &mut out);
        self.overhead.tell(now, &mut out);
        self.attempts.tell(now, &mut out);
        self.transitions.tell(now, &mut out);
        self.shed.tell(now, &mut out);
        self.authz.tell(now, &mut out);
        self.refused.tell(now, &mut out);
        self.destinations.tell(now, &mut out);
        self.detected.tell(now, &mut out);
        self.rejected.tell(now, &mut out);
        self.apply.tell(now, &mut out);
        self.tell_by_direction(&mut out);
        self.tell_single(&mut out);
        self.sources.read().iter().for_each(|source| source(&mut out));
        process::tell(&mut out);
        out.finish()
    }

    fn tell_by_direction(&self, out: &mut Exposition) {
        out.family("weir_inflight", "gauge", "Requests under way.");
        for direction in Direction::ALL {
            out.sample([("direction", direction.as_str())], self.inflight(direction));
        }
        tcp::tell(&self.tcp, out);
    }

    fn tell_single(&self, out: &mut Exposition) {
        fn one<M: Metric>(out: &mut Exposition, name: &'static str, help: &'static str, metric: &M) {
            out.family(name, M::KIND, help);
            metric.tell(&[], out);
        }
        let name = "weir_identity_cert_expiration_timestamp_seconds";
        one(out, name, "End of the sidecar's certificate, since the epoch.", &self.certificate_expiration);
        let name = "weir_identity_cert_renewals_total";
        one(out, name, "Certificates received.", &self.certificate_renewals);
        let name = "weir_identity_cert_failures_total";
        one(out, name, "Attempts to get a certificate that failed.", &self.certificate_failures);
        let name = "weir_control_plane_connected";
        one(out, name, "Whether the stream to the control plane stands.", &self.control_plane_connected);
        let name = "weir_access_log_dropped_total";
        one(out, name, "Access log lines that could not be written.", &*self.access_log_dropped);
        out.family("weir_series_active", "gauge", "Series with labels.").sample([], self.cap.active());
        out.family("weir_series_dropped_total", "counter", "Series that were asked for above the cap.");
        out.sample([], self.cap.dropped());
        out.family("weir_build_info", "gauge", "1, by version.");
        out.sample([("version", env!("CARGO_PKG_VERSION"))], 1);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("cap", &self.cap).finish_non_exhaustive()
    }
}

const REQUEST_LABELS: [&str; 9] =
    ["direction", "protocol", "response_code", "grpc_status", "reason", "source", "destination", "route", "tls"];

fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_SECONDS)
}

/// What authorisation decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthzDecision {
    /// It may.
    Allow,
    /// It may not.
    Deny,
    /// It would not be allowed, if this were enforced.
    Audit,
}

impl AuthzDecision {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Kind, telemetry::record::Protocol};
    use std::time::{Duration, SystemTime};

    fn labels(direction: Direction, destination: &str) -> RouteLabels {
        let (workload, route) = ("demo/web".into(), "default".into());
        RouteLabels { direction, workload, destination: destination.into(), route, tls: true }
    }

    fn record(direction: Direction, status: u16) -> RequestRecord {
        let (method, uri) = (http::Method::GET, http::Uri::default());
        let record = RequestRecord::new(SystemTime::UNIX_EPOCH, direction, Protocol::Grpc, method, uri);
        RequestRecord { status: Some(status), duration: Duration::from_millis(4), ..record }
    }

    fn has(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.tell(Instant::now());
        lines.iter().for_each(|line| assert!(text.contains(line), "{line} in {text}"));
    }

    #[test]
    fn a_request_is_told_by_its_outcome() {
        let metrics = Metrics::new(DEFAULT_SERIES);
        let handle = metrics.route(labels(Direction::Outbound, "billing"));
        assert!(Arc::ptr_eq(&handle, &metrics.route(labels(Direction::Outbound, "billing"))));
        let under_way = metrics.begin(Direction::Outbound);
        assert_eq!(metrics.inflight(Direction::Outbound), 1.0);
        let answered = RequestRecord {
            grpc_status: Some(14),
            reason: Some(Kind::Overflow),
            time_to_headers: Some(Duration::from_millis(3)),
            overhead: Some(Duration::from_micros(40)),
            ..record(Direction::Outbound, 200)
        };
        handle.request(&answered);
        handle.request(&RequestRecord { grpc_status: Some(0), ..record(Direction::Outbound, 200) });
        drop(under_way);
        metrics.unrouted(&RequestRecord { reason: Some(Kind::RouteNotFound), ..record(Direction::Inbound, 404) });
        has(
            &metrics,
            &[
                "weir_requests_total{direction=\"outbound\",protocol=\"grpc\",response_code=\"200\",grpc_status=\"14\",\
                 reason=\"overflow\",source=\"demo/web\",destination=\"billing\",route=\"default\",tls=\"mutual\"} 1",
                "weir_request_duration_seconds_count{direction=\"outbound\",destination=\"billing\",route=\"default\"} 2",
                "weir_time_to_first_byte_seconds_bucket{direction=\"outbound\",destination=\"billing\",le=\"0.005\"} 1",
                "weir_proxy_overhead_seconds_bucket{direction=\"outbound\",le=\"0.00005\"} 1",
                "response_code=\"404\",grpc_status=\"\",reason=\"route_not_found\",source=\"\",destination=\"\"",
                "weir_inflight{direction=\"outbound\"} 0",
                "weir_build_info{version=",
                "process_resident_memory_bytes ",
            ],
        );
    }

    #[test]
    fn callers_and_outcomes_without_number_are_all_counted() {
        let metrics = Metrics::new(DEFAULT_SERIES);
        let handle = metrics.route(labels(Direction::Inbound, "x"));
        for status in 200..260 {
            for caller in ["a", "b"] {
                let source_identity = format!("spiffe://weir.local/ns/demo/sa/{caller}").parse().ok();
                handle.request(&RequestRecord { source_identity, ..record(Direction::Inbound, status) });
            }
        }
        let text = metrics.tell(Instant::now());
        assert!(text.contains("response_code=\"259\",grpc_status=\"\",reason=\"\",source=\"demo/b\""), "{text}");
        let counted = text.lines().filter(|l| l.starts_with("weir_requests_total{"));
        let sum: u64 = counted.map(|l| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
        assert_eq!(sum, 120);
    }

    #[test]
    fn destinations_without_number_do_not_grow_memory_without_end() {
        let metrics = Metrics::new(50);
        for i in 0..1_000 {
            let handle = metrics.route(labels(Direction::Outbound, &format!("d{i}")));
            handle.request(&record(Direction::Outbound, 200));
        }
        has(&metrics, &["destination=\"other\"", "weir_series_active 50\n"]);
        assert!(metrics.handles.read().len() <= 50);
    }

    #[test]
    fn attempts_breakers_bytes_and_sources_are_told() {
        let metrics = Metrics::new(DEFAULT_SERIES);
        let cluster = metrics.cluster(&"billing".into());
        cluster.attempt(1, "connect_failed");
        cluster.attempt(2, "failure");
        cluster.attempt(7, "success");
        cluster.ejected("consecutive_5xx");
        metrics.tcp_opened(Direction::Inbound);
        metrics.tcp_bytes(Direction::Inbound, 10, 20);
        metrics.tcp_closed(Direction::Inbound);
        metrics.connection_refused(Direction::Inbound, "tls_peer_untrusted");
        metrics.shed("connections");
        metrics.authz(AuthzDecision::Deny, "demo/only-web");
        metrics.add_source(|out| {
            out.family("weir_endpoints", "gauge", "x").sample([("state", "ready")], 3);
        });
        has(
            &metrics,
            &[
                "weir_attempts_total{destination=\"billing\",attempt=\"1\",outcome=\"connect_failed\"} 1",
                "weir_attempts_total{destination=\"billing\",attempt=\"2\",outcome=\"failure\"} 1",
                "weir_attempts_total{destination=\"billing\",attempt=\"3+\",outcome=\"success\"} 1",
                "weir_breaker_transitions_total{destination=\"billing\",to=\"ejected\",cause=\"consecutive_5xx\"} 1",
                "weir_tcp_sent_bytes_total{direction=\"inbound\"} 20",
                "weir_tcp_connections_closed_total{direction=\"inbound\"} 1",
                "weir_tcp_open_connections{direction=\"inbound\"} 0",
                "weir_connections_refused_total{direction=\"inbound\",reason=\"tls_peer_untrusted\"} 1",
                "weir_shed_total{reason=\"connections\"} 1",
                "weir_authz_total{decision=\"deny\",policy=\"demo/only-web\"} 1",
                "weir_endpoints{state=\"ready\"} 3",
            ],
        );
    }
}
