//! The admission webhook: Kubernetes asks before it keeps a pod (`/inject`, changes it) or a document that configures the
//! mesh (`/validate`, refuses what Weir would refuse). HTTPS with a certificate of our own authority, which Kubernetes
//! learns from `caBundle`; [`cluster`] keeps that current.
//!
//! What is asked is bounded (size, time, how many at once), and what is answered depends on nothing but the question, the
//! namespace and the mesh's settings: any replica answers the same.

mod cluster;
mod inject;
mod known;
mod missed;
mod review;
mod server;
#[cfg(test)]
mod tests;
mod validate;

pub use cluster::{Cluster, Names};
pub use known::{Known, Namespaces};
pub use missed::{MOST_LISTED, Missed, is_missed};
pub use server::{Parts, router};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

/// What the webhook counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// `weir_cp_injections_total{result}`: `injected`, `refused`, or the reason why not.
    pub injections: IntCounterVec,
    /// `weir_cp_validations_total{result}`
    pub validations: IntCounterVec,
    /// `weir_cp_webhook_seconds`
    pub seconds: Histogram,
    /// `weir_cp_pods_without_sidecar`: pods that should have one.
    pub missed: IntGauge,
    /// `weir_cp_namespaces_with_sidecars`
    pub namespaces: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// The registry already has one of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("weir_cp_{name}"), help);
        let injections = IntCounterVec::new(opts("injections_total", "Pods that Kubernetes asked about"), &["result"])?;
        let validations =
            IntCounterVec::new(opts("validations_total", "Documents that Kubernetes asked about"), &["result"])?;
        let buckets = vec![0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
        let seconds = HistogramOpts::from(opts("webhook_seconds", "Answering the admission webhook")).buckets(buckets);
        let seconds = Histogram::with_opts(seconds)?;
        let missed =
            IntGauge::with_opts(opts("pods_without_sidecar", "Pods that should have a sidecar and have none"))?;
        let namespaces = IntGauge::with_opts(opts("namespaces_with_sidecars", "Namespaces that ask for sidecars"))?;
        registry.register(Box::new(injections.clone()))?;
        registry.register(Box::new(validations.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(missed.clone()))?;
        registry.register(Box::new(namespaces.clone()))?;
        Ok(Self { injections, validations, seconds, missed, namespaces })
    }
}
