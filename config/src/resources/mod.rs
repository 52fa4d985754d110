//! What operators write: Kubernetes-shaped documents, parsed once into what they mean.
//!
//! Text becomes a tree of nodes that know their line ([`node`], from YAML or JSON); a reader per kind takes the tree
//! apart, reports every field it does not know and every value that is wrong, and gives the validated `spec`;
//! [`check_all`] then looks at what documents say about each other.

mod authorization_policy;
mod document;
mod issue;
mod kind;
mod mesh;
mod metadata;
mod reference;
mod route;
mod service;
mod settings;
mod traffic_policy;
mod workload;

pub use authorization_policy::{Applies, AuthorizationPolicy, AuthzAction, AuthzRule, Operation, Principal};
pub use document::{Document, Object};
pub use issue::Issue;
pub use kind::{Key, KeyError, Kind};
pub use mesh::{Mesh, MtlsMode};
pub use metadata::Metadata;
pub use reference::Reference;
pub use route::{BackendRef, Filters, ParentRef, RouteRule, RouteSpec, ServiceRef};
pub use service::{AppProtocol, Service, ServicePort, TargetPort};
pub use settings::{Settings, Switch};
pub use traffic_policy::{TargetRef, TrafficPolicy};
pub use workload::{Sidecar, Workload, WorkloadPort};
