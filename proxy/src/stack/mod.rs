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

#[cfg(test)]
mod tests {
    use crate::{
        policy::{
            balance::Balance, breaker::Breaker, fault::Fault, forward::Forward, headers::Headers, retry::Retry,
            timeout::Timeout, upgrade::Upgrades,
        },
        request::Routed,
        stage::Stage,
    };

    type Routes = Headers<Fault<Timeout<Upgrades<Retry<Breaker<Balance<Forward>>>>>>>;

    /// The size of what a function gives.
    fn size<I, F>(_: impl FnOnce(I) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_a_request_under_way_holds_stays_small() {
        // Each hand that a large value goes through by value has room for it in its future.
        let bytes = size(|(stages, routed): (&'static Routes, Box<Routed>)| stages.call(routed));
        assert!(bytes <= 2 * 1024, "{bytes} bytes");
    }
}
