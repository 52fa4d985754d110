//! What operators write (`resources`), what both binaries mean by it (`model`), and how it travels (`xds`).
//!
//! A document is parsed and validated in [`resources`]; the control plane compiles documents into [`model`];
//! [`xds`] turns the model into Envoy's protobufs and back; the sidecar runs on the model it read back.

pub mod bootstrap;
pub mod model;
pub mod resources;
pub mod xds;
