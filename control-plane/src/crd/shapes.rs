//! The shapes of our kinds: fields, and what they may be. The descriptions are what `kubectl explain` prints.

#![allow(dead_code)] // Schemas are made from these types; values of them never are.

mod external;
mod policies;
mod settings;
mod status;
mod workload;

pub(super) use external::ExternalServiceSpec;
pub(super) use policies::{AuthorizationPolicySpec, TrafficPolicySpec};
pub(super) use status::Status;
pub(super) use workload::{MeshSpec, WorkloadSpec};
