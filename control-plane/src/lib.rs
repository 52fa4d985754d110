//! The control plane: what operators write, kept, indexed, and compiled into what each sidecar needs to know.

pub mod ca;
pub mod fleet;
pub mod metrics;
pub mod xds;
