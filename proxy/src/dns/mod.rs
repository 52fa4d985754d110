//! Answers the questions (DNS) that `weir-init` has turned here: names of the mesh from its configuration, all others by
//! the resolvers that this machine has, byte for byte.
//!
//! Nothing is kept: what the mesh's names mean is in the configuration, and what others mean is for the resolvers to keep.

mod message;
mod server;

pub use server::{Server, Sockets};

/// The port of loopback that questions are turned to. (Istio's.)
pub const PORT: u16 = crate::capture::DNS;
