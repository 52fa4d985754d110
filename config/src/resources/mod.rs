//! What operators write: Kubernetes-shaped documents, parsed once into what they mean.
//!
//! Text becomes a tree of nodes that know their line (`yaml`, `node`); a reader per kind (`read_*`) takes the tree
//! apart, reports every field it does not know and every value that is wrong, and gives the validated `spec`, which
//! holds [`crate::model`]'s values; [`check_all`] then looks at what documents say about each other.

mod authorization_policy;
mod check;
mod circle;
mod document;
mod duration;
mod envelope;
mod external_service;
mod issue;
mod kind;
mod load;
mod mesh;
mod metadata;
mod node;
mod read;
mod read_authorization;
mod read_external;
mod read_fault;
mod read_filter;
mod read_match;
mod read_mesh;
mod read_policy;
mod read_retry;
mod read_route;
mod read_service;
mod read_settings;
mod read_workload;
mod reference;
mod route;
mod scalars;
mod service;
mod settings;
#[cfg(test)]
mod tests;
mod traffic_policy;
mod workload;
mod yaml;

pub use authorization_policy::{Applies, AuthorizationPolicy, AuthzAction, AuthzRule, Operation, Principal};
pub use check::check_all;
pub use circle::{MOST_NAMES, is_within, service_of};
pub use document::{Document, Object};
pub use duration::{DurationError, format_duration, parse_duration};
pub use external_service::{ExternalHost, ExternalPort, ExternalProtocol, ExternalService};
pub use issue::Issue;
pub use kind::{Key, KeyError, Kind};
pub use load::{load_dir, parse};
pub use mesh::{Mesh, MtlsMode, OutboundMode};
pub use metadata::Metadata;
pub use reference::Reference;
pub use route::{BackendRef, Filters, ParentRef, RouteRule, RouteSpec, ServiceRef};
pub use service::{AppProtocol, Distribution, Service, ServicePort, TargetPort};
pub use settings::{Settings, Switch};
pub use traffic_policy::{TargetRef, TrafficPolicy};
pub use workload::{Hint, Sidecar, Workload, WorkloadPort};
