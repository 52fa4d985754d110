//! The control plane: what operators write, kept, indexed, and compiled into what each sidecar needs to know.

pub mod ca;
pub mod compile;
pub mod fleet;
pub mod index;
pub mod metrics;
pub mod store;
pub mod tls;
pub mod xds;
