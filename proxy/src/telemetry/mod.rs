//! What is told about requests and about this process: metrics, the access log, trace headers.
//!
//! Nothing here is a global: one [`Metrics`] and one [`AccessLog`] are made at the start and handed down.

pub mod access_log;
pub mod exposition;
pub mod metrics;
pub mod process;
pub mod record;
pub mod registry;
pub mod trace;

pub use access_log::{AccessLog, Mode};
pub use exposition::Exposition;
pub use metrics::{AuthzDecision, Carried, ClusterMetrics, InFlight, Metrics, RequestMetrics, RouteLabels};
pub use record::{Attempt, Direction, Protocol, RequestRecord};
pub use registry::{Counter, Gauge, Histogram};
pub use trace::TraceContext;
