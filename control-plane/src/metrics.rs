//! What the control plane counts: `weir_cp_*`, registered in a registry that the caller owns.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// All metrics of the control plane's xDS server and certificate authority. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// `weir_cp_connected_proxies{protocol}`
    pub connected: IntGaugeVec,
    /// `weir_cp_streams_refused_total{reason}`
    pub streams_refused: IntCounterVec,
    /// `weir_cp_requests_total{kind}`: messages of clients.
    pub requests: IntCounterVec,
    /// `weir_cp_pushes_total{kind}`: responses sent.
    pub pushes: IntCounterVec,
    /// `weir_cp_push_bytes_total{kind}`
    pub push_bytes: IntCounterVec,
    /// `weir_cp_nacks_total{kind}`
    pub nacks: IntCounterVec,
    /// `weir_cp_subscriptions`: resource names asked for over all streams.
    pub subscriptions: IntGauge,
    /// `weir_cp_push_queue`: responses made and not yet taken by the network.
    pub queue: IntGauge,
    /// `weir_cp_convergence_seconds`: from a change being stored to a concerned proxy having applied it.
    pub convergence: Histogram,
    /// `weir_cp_compile_seconds{kind}`: making one resource.
    pub compile: HistogramVec,
    /// `weir_cp_resources_cached`: resources made for the newest world.
    pub cached: IntGauge,
    /// `weir_cp_config_version`: the newest version of the world seen.
    pub version: IntGauge,
    /// `weir_cp_certificates_issued_total{proof}`
    pub issued: IntCounterVec,
    /// `weir_cp_certificates_refused_total{reason}`
    pub refused: IntCounterVec,
    /// `weir_cp_tls_handshake_failures_total{reason}`
    pub handshakes: IntCounterVec,
    /// `weir_cp_connections`: open connections to the xDS port.
    pub connections: IntGauge,
    /// `weir_cp_root_expiration_timestamp_seconds`
    pub root_expiration: IntGauge,
    /// `weir_cp_store_connected`: 1 while a store on a server is followed.
    pub store_connected: IntGauge,
    /// `weir_cp_store_failures_total`: calls to a store on a server that were made again.
    pub store_failures: IntCounter,
    /// `weir_cp_store_conflicts_total`: transactions worked out anew because another replica was quicker.
    pub store_conflicts: IntCounter,
    /// `weir_cp_leader`: 1 while this replica leads.
    pub leader: IntGauge,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// The registry already has one of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let r = Register(registry);
        Ok(Self {
            connected: r.gauges("connected_proxies", "xDS streams that are open", &["protocol"])?,
            streams_refused: r.counters("streams_refused_total", "xDS streams refused or ended", &["reason"])?,
            requests: r.counters("requests_total", "Messages of xDS clients", &["kind"])?,
            pushes: r.counters("pushes_total", "xDS responses sent", &["kind"])?,
            push_bytes: r.counters("push_bytes_total", "Bytes of resources sent", &["kind"])?,
            nacks: r.counters("nacks_total", "xDS responses refused by clients", &["kind"])?,
            subscriptions: r.gauge("subscriptions", "Resource names asked for over all streams")?,
            queue: r.gauge("push_queue", "xDS responses waiting for the network")?,
            convergence: r.histogram("convergence_seconds", "From a change stored to a proxy having applied it")?,
            compile: r.histograms("compile_seconds", "Making one resource", &["kind"])?,
            cached: r.gauge("resources_cached", "Resources made for the newest version")?,
            version: r.gauge("config_version", "The newest version of the documents")?,
            issued: r.counters("certificates_issued_total", "Certificates issued", &["proof"])?,
            refused: r.counters("certificates_refused_total", "Certificates refused", &["reason"])?,
            handshakes: r.counters("tls_handshake_failures_total", "TLS handshakes that failed", &["reason"])?,
            connections: r.gauge("connections", "Open connections to the xDS port")?,
            root_expiration: r.gauge("root_expiration_timestamp_seconds", "When the issuing certificate ends")?,
            store_connected: r.gauge("store_connected", "1 while a store on a server is followed")?,
            store_failures: r.counter("store_failures_total", "Calls to the store's server that were made again")?,
            store_conflicts: r
                .counter("store_conflicts_total", "Transactions that another replica was quicker than")?,
            leader: r.gauge("leader", "1 while this replica leads")?,
        })
    }
}

struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let metric = IntGauge::with_opts(opts(name, help))?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let metric = IntCounter::with_opts(opts(name, help))?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        let metric = IntGaugeVec::new(opts(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        let metric = IntCounterVec::new(opts(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let metric = Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(seconds()))?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        let metric = HistogramVec::new(HistogramOpts::from(opts(name, help)).buckets(seconds()), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("weir_cp_{name}"), help)
}

/// From 10 µs (making a resource) to 30 s (a proxy that is away).
fn seconds() -> Vec<f64> {
    vec![0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
}

/// Counters nobody looks at, for tests and for callers without a registry.
impl Default for Metrics {
    fn default() -> Self {
        // A registry of its own cannot have these names already.
        Self::new(&Registry::new()).unwrap_or_else(|e| unreachable!("metric names are constant: {e}"))
    }
}

impl Metrics {
    /// One more or one less, with a label.
    pub(crate) fn count(counter: &IntCounterVec, label: &str) {
        let counter: IntCounter = counter.with_label_values(&[label]);
        counter.inc();
    }
}
