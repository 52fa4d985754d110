//! The load bench: what a request costs through Weir's pair of sidecars, through those of its peers, and without any.
//!
//! client → sidecar → mutual TLS 1.3 → sidecar → application, on loopback, the sidecars as processes, the client and the
//! application in this one. The contestants take turns in rounds, so that a noisy minute hits all of them, and every
//! figure is the median of its rounds with the lowest and the highest beside it.

pub mod application;
pub mod callgrind;
pub mod calls;
pub mod cli;
pub mod contestant;
pub mod flame;
pub mod gate;
pub mod handshakes;
pub mod idle;
pub mod load;
pub mod machine;
pub mod measure;
pub mod order;
pub mod peers;
pub mod profile;
pub mod report;
pub mod results;
pub mod run;
pub mod scenario;
pub mod sizes;
pub mod slices;
pub mod usage;
pub mod variants;
