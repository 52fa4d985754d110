//! All metrics of the proxy, by name. Handles for one set of labels are made when the configuration is built (or a
//! connection accepted) and kept there; per request only atomics are touched.
//!
//! What is a state of the configuration and not an event (endpoints by state, what is left of a retry budget, the
//! version) is told at the scrape by whoever holds that state: [`Metrics::add_source`].

mod cluster;
mod request;

pub use cluster::{ClusterMetrics, TcpMetrics};
pub use request::{InFlight, RequestLabels, RequestMetrics};

use super::{
    exposition::Exposition,
    process,
    record::Direction,
    registry::{Cap, Counter, Family, Gauge, Histogram, Metric, OVERHEAD_SECONDS, REQUEST_SECONDS},
};
use crate::error::Kind;
use parking_lot::RwLock;
use std::{collections::HashMap, fmt, sync::Arc, time::Instant};

/// How many series there may be, unless something else is said.
pub const DEFAULT_SERIES: usize = 10_000;

/// The metrics of one process.
pub struct Metrics {
    cap: Arc<Cap>,
    handles: RwLock<HashMap<RequestLabels, Arc<RequestMetrics>>>,
    sources: RwLock<Vec<Source>>,

    requests: Arc<Family<Counter, 9>>,
    durations: Family<Histogram, 3>,
    first_bytes: Family<Histogram, 2>,
    overhead: Family<Histogram, 1>,
    inflight: Family<Gauge, 1>,
    attempts: Arc<Family<Counter, 3>>,
    transitions: Family<Counter, 3>,
    shed: Family<Counter, 1>,
    authz: Family<Counter, 2>,
    tcp_opened: Family<Counter, 2>,
    tcp_closed: Arc<Family<Counter, 3>>,
    tcp_open: Family<Gauge, 2>,
    tcp_received: Family<Counter, 2>,
    tcp_sent: Family<Counter, 2>,
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
            inflight: Family::new(c, "weir_inflight", "Requests under way.", ["direction"], Gauge::default),
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
            tcp_opened: tcp(c, "weir_tcp_connections_opened_total", "Connections of bytes that began."),
            tcp_closed: Arc::new(Family::new(
                c,
                "weir_tcp_connections_closed_total",
                "Connections of bytes that ended.",
                ["direction", "destination", "reason"],
                Counter::default,
            )),
            tcp_open: tcp(c, "weir_tcp_open_connections", "Connections of bytes that are open."),
            tcp_received: tcp(c, "weir_tcp_received_bytes_total", "Bytes from clients."),
            tcp_sent: tcp(c, "weir_tcp_sent_bytes_total", "Bytes to clients."),
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
            handles: RwLock::default(),
            sources: RwLock::default(),
            cap,
        })
    }

    /// The handle of one set of labels. Looked up under a lock: kept by whoever needs it often.
    pub fn requests(&self, labels: &RequestLabels) -> Arc<RequestMetrics> {
        if let Some(found) = self.handles.read().get(labels) {
            return found.clone();
        }
        let mut handles = self.handles.write();
        if handles.len() >= self.cap.max() {
            handles.retain(|_, handle| Arc::strong_count(handle) > 1);
        }
        let made = Arc::new(RequestMetrics::new(self, labels));
        if handles.len() < self.cap.max() {
            handles.insert(labels.clone(), made.clone());
        }
        made
    }

    /// The handle of one destination's attempts and breakers.
    pub fn cluster(&self, destination: &Arc<str>) -> ClusterMetrics {
        ClusterMetrics::new(self, destination)
    }

    /// The handle of connections of bytes.
    pub fn tcp(&self, direction: Direction, destination: &Arc<str>) -> TcpMetrics {
        TcpMetrics::new(self, direction, destination)
    }

    /// Something was refused to protect somebody.
    pub fn shed(&self, reason: Kind) -> Arc<Counter> {
        self.shed.of([reason.reason()])
    }

    /// A handle for decisions of one policy: `decision` is `allow`, `deny` or `audit`.
    pub fn authz(&self, decision: &'static str, policy: &str) -> Arc<Counter> {
        self.authz.of([decision, policy])
    }

    /// A resource of the control plane was refused.
    pub fn config_rejected(&self, kind: &str) {
        self.rejected.of([kind]).inc();
    }

    /// A snapshot was built and swapped in.
    pub fn config_applied(&self) -> Arc<Histogram> {
        self.apply.with([])
    }

    /// Requests under way: the count that the handles of this direction share.
    pub fn inflight(&self, direction: Direction) -> f64 {
        self.inflight.of([direction.as_str()]).value()
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
        self.inflight.tell(now, &mut out);
        self.attempts.tell(now, &mut out);
        self.transitions.tell(now, &mut out);
        self.shed.tell(now, &mut out);
        self.authz.tell(now, &mut out);
        self.tcp_opened.tell(now, &mut out);
        self.tcp_closed.tell(now, &mut out);
        self.tcp_open.tell(now, &mut out);
        self.tcp_received.tell(now, &mut out);
        self.tcp_sent.tell(now, &mut out);
        self.rejected.tell(now, &mut out);
        self.apply.tell(now, &mut out);
        self.tell_single(&mut out);
        self.sources.read().iter().for_each(|source| source(&mut out));
        process::tell(&mut out);
        out.finish()
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

fn tcp<M: Metric + Default>(cap: &Arc<Cap>, name: &'static str, help: &'static str) -> Family<M, 2> {
    Family::new(cap, name, help, ["direction", "destination"], M::default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::record::Protocol;
    use std::time::Duration;

    fn labels(destination: &str) -> RequestLabels {
        RequestLabels {
            direction: Direction::Outbound,
            protocol: Protocol::Grpc,
            source: "demo/web".into(),
            destination: destination.into(),
            route: "default".into(),
            tls: true,
        }
    }

    #[test]
    fn a_request_is_told_by_its_outcome() {
        let metrics = Metrics::new(DEFAULT_SERIES);
        let handle = metrics.requests(&labels("billing"));
        assert!(Arc::ptr_eq(&handle, &metrics.requests(&labels("billing"))));
        let under_way = handle.begin();
        assert_eq!(metrics.inflight(Direction::Outbound), 1.0);
        handle.answered(Duration::from_millis(3), Duration::from_micros(40));
        handle.ended(200, Some(14), Some(Kind::Overflow), Duration::from_millis(4));
        handle.ended(200, Some(0), None, Duration::from_millis(4));
        drop(under_way);
        let text = metrics.tell(Instant::now());
        for line in [
            "weir_requests_total{direction=\"outbound\",protocol=\"grpc\",response_code=\"200\",grpc_status=\"14\",\
             reason=\"overflow\",source=\"demo/web\",destination=\"billing\",route=\"default\",tls=\"mutual\"} 1",
            "weir_request_duration_seconds_count{direction=\"outbound\",destination=\"billing\",route=\"default\"} 2",
            "weir_time_to_first_byte_seconds_bucket{direction=\"outbound\",destination=\"billing\",le=\"0.005\"} 1",
            "weir_proxy_overhead_seconds_bucket{direction=\"outbound\",le=\"0.00005\"} 1",
            "weir_inflight{direction=\"outbound\"} 0",
            "weir_build_info{version=",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn many_outcomes_of_one_handle_are_all_counted() {
        let metrics = Metrics::new(DEFAULT_SERIES);
        let handle = metrics.requests(&labels("x"));
        for round in 0..2 {
            for status in 200..260 {
                handle.ended(status + round, None, None, Duration::ZERO);
            }
        }
        let text = metrics.tell(Instant::now());
        assert!(text.contains("response_code=\"230\",grpc_status=\"\",reason=\"\""), "{text}");
        let counted = text.lines().filter(|l| l.starts_with("weir_requests_total{"));
        let sum: u64 = counted.map(|l| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
        assert_eq!(sum, 120);
    }

    #[test]
    fn destinations_without_number_do_not_grow_memory_without_end() {
        let metrics = Metrics::new(50);
        for i in 0..1_000 {
            let handle = metrics.requests(&labels(&format!("d{i}")));
            handle.ended(200, None, None, Duration::ZERO);
        }
        let text = metrics.tell(Instant::now());
        assert!(text.contains("destination=\"other\""), "{text}");
        assert!(text.contains("weir_series_active 50\n"));
        assert!(metrics.handles.read().len() <= 50);
    }

    #[test]
    fn attempts_breakers_bytes_and_sources_are_told() {
        let metrics = Metrics::new(DEFAULT_SERIES);
        let cluster = metrics.cluster(&"billing".into());
        cluster.attempt(1, Err(Kind::ConnectFailed));
        cluster.attempt(2, Ok(503));
        cluster.attempt(7, Ok(200));
        cluster.ejected("consecutive_5xx");
        let tcp = metrics.tcp(Direction::Inbound, &"db".into());
        let connection = tcp.open();
        connection.received(10);
        connection.sent(20);
        connection.close(None);
        metrics.add_source(|out| {
            out.family("weir_endpoints", "gauge", "x").sample([("state", "ready")], 3);
        });
        let text = metrics.tell(Instant::now());
        for line in [
            "weir_attempts_total{destination=\"billing\",attempt=\"1\",outcome=\"connect_failed\"} 1",
            "weir_attempts_total{destination=\"billing\",attempt=\"2\",outcome=\"server_error\"} 1",
            "weir_attempts_total{destination=\"billing\",attempt=\"3+\",outcome=\"success\"} 1",
            "weir_breaker_transitions_total{destination=\"billing\",to=\"ejected\",cause=\"consecutive_5xx\"} 1",
            "weir_tcp_sent_bytes_total{direction=\"inbound\",destination=\"db\"} 20",
            "weir_tcp_connections_closed_total{direction=\"inbound\",destination=\"db\",reason=\"\"} 1",
            "weir_tcp_open_connections{direction=\"inbound\",destination=\"db\"} 0",
            "weir_endpoints{state=\"ready\"} 3",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
