//! A small streaming platform, its viewers, and the failures that they should not feel.
//!
//! The demo of Weir: the same applications run with a sidecar beside each instance or without, suffer the same failures
//! under the same viewers (same seed), and the difference is what a mesh is for.
//!
//! - [`platform`]: which services there are;
//! - [`services`]: what they do; [`app`]: one instance of one; [`fault`]: how it is made to fail;
//! - [`peers`]: how they call each other, [`proto`]: what they say over gRPC;
//! - [`viewers`]: the traffic; [`stats`]: what is counted;
//! - `stage`: all processes of a run; `board`: the page; `scenarios`: the failures one after the other, with a report.

pub mod app;
pub mod board;
pub mod cli;
pub mod fault;
pub mod peers;
pub mod platform;
pub mod proto;
pub mod scenarios;
pub mod services;
pub mod stage;
pub mod stats;
pub mod viewers;
