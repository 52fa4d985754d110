//! The port for scrapers and probes: `/metrics`, `/livez`, `/readyz`, `/healthz`.

use crate::{folder, index::World};
use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_config::resources::Kind;

/// What the pages are made of.
#[derive(Clone)]
pub(super) struct Health {
    world: watch::Receiver<Arc<World>>,
    folder: Option<watch::Receiver<folder::Report>>,
    stop: CancellationToken,
    documents: IntGaugeVec,
    folder_issues: IntGauge,
    folder_documents: IntGauge,
}

impl Health {
    /// Registers what is only counted here.
    pub(super) fn new(
        registry: &Registry,
        world: watch::Receiver<Arc<World>>,
        folder: Option<watch::Receiver<folder::Report>>,
        stop: CancellationToken,
    ) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(format!("weir_cp_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let documents = IntGaugeVec::new(Opts::new("weir_cp_documents", "Documents in the store"), &["kind"])?;
        registry.register(Box::new(documents.clone()))?;
        let build =
            IntGaugeVec::new(Opts::new("weir_build_info", "The version, as a label"), &["version", "component"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), "control-plane"]).set(1);
        Ok(Self {
            world,
            folder,
            stop,
            documents,
            folder_issues: gauge(
                "folder_issues",
                "Things that are wrong in the watched folder; above 0 its last good set holds",
            )?,
            folder_documents: gauge("folder_documents", "Documents that the watched folder manages")?,
        })
    }

    /// The pages.
    pub(super) fn router(self, registry: Registry) -> Router {
        let ready = self.clone();
        Router::new()
            .route("/metrics", get(async move || self.metrics(&registry)))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(async move || ready.ready()))
            .route("/healthz", get(async || "ok\n"))
    }

    fn metrics(&self, registry: &Registry) -> Response {
        let snapshot = self.world.borrow().snapshot().clone();
        for kind in Kind::ALL {
            let count = i64::try_from(snapshot.list(kind, None).count()).unwrap_or(i64::MAX);
            self.documents.with_label_values(&[kind.as_str()]).set(count);
        }
        if let Some(report) = &self.folder {
            let report = report.borrow();
            self.folder_issues.set(i64::try_from(report.issues.len()).unwrap_or(i64::MAX));
            self.folder_documents.set(i64::try_from(report.documents).unwrap_or(i64::MAX));
        }
        match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    /// Everything is bound and open before this page answers at all; what is left is the end.
    fn ready(&self) -> Response {
        if self.stop.is_cancelled() {
            return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
        }
        "ok\n".into_response()
    }
}
