//! The handle of a destination's attempts and breakers.

use super::{Metrics, cache::Cache};
use crate::telemetry::registry::{Counter, Family};
use std::sync::Arc;

/// Attempts and breaker steps of one destination.
#[derive(Debug)]
pub struct ClusterMetrics {
    destination: Arc<str>,
    attempts: Arc<Family<Counter, 3>>,
    outcomes: Cache<(u32, &'static str)>,
    returned: Arc<Counter>,
    bytes: Arc<Family<Counter, 2>>,
    /// By cause.
    ejected: [(&'static str, Arc<Counter>); 3],
}

/// The words of `logic::outlier::Cause`.
const CAUSES: [&str; 3] = ["consecutive_5xx", "consecutive_gateway_failure", "failure_percentage"];

/// Bytes of one destination.
#[derive(Debug, Clone)]
pub struct Carried {
    /// To it.
    pub sent: Arc<Counter>,
    /// From it.
    pub received: Arc<Counter>,
}

impl ClusterMetrics {
    pub(super) fn new(metrics: &Metrics, destination: &Arc<str>) -> Self {
        let transition =
            |to: &str, cause: &str| metrics.transitions.with([destination.clone(), to.into(), cause.into()]);
        Self {
            destination: destination.clone(),
            attempts: metrics.attempts.clone(),
            outcomes: Cache::default(),
            bytes: metrics.destinations.clone(),
            returned: transition("returned", ""),
            ejected: CAUSES.map(|cause| (cause, transition("ejected", cause))),
        }
    }

    /// An attempt has ended: its number from 1, and `success`, `failure` (an answer that is one), or a reason token.
    pub fn attempt(&self, number: u32, outcome: &'static str) {
        let number = number.clamp(1, 3);
        self.outcomes.count(
            |known| *known == (number, outcome),
            || (number, outcome),
            |_| {
                let number = ["1", "2", "3+"][number as usize - 1];
                self.attempts.with([self.destination.clone(), number.into(), outcome.into()])
            },
        );
    }

    /// Where bytes to the destination, and from it, are counted.
    pub fn carried(&self) -> Carried {
        let of = |way: &str| self.bytes.with([self.destination.clone(), way.into()]);
        Carried { sent: of("sent"), received: of("received") }
    }

    /// An endpoint was ejected; `cause` is `logic::outlier::Cause::as_str`.
    pub fn ejected(&self, cause: &str) {
        self.ejected.iter().filter(|(name, _)| *name == cause).for_each(|(_, counter)| counter.inc());
    }

    /// An endpoint has returned.
    pub fn returned(&self) {
        self.returned.inc();
    }
}
