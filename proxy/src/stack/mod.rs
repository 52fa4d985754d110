//! The order of the stages, and nothing else. Each line says why the stage stands where it does.

mod inbound;
mod outbound;

pub use inbound::inbound;
pub use outbound::Outbound;

use crate::{body::ReplayMemory, telemetry::Metrics, tunnel::Tunnel};
use std::sync::Arc;

/// What all stacks share.
#[derive(Clone)]
pub struct Parts {
    /// The memory in which bodies are kept for further tries.
    pub memory: Arc<ReplayMemory>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
    /// What carries upgraded connections.
    pub tunnel: Tunnel,
}
