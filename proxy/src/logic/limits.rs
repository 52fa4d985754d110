//! Circuit breaking by limits: connections, pending requests, requests and retries of a cluster, each a counter with a
//! ceiling. Above it work is refused, not queued.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};
use weir_config::model::ConnectionLimits;

/// The four limits of a cluster. They outlive a change of the configuration: [`ClusterLimits::set`].
#[derive(Debug, Default)]
pub struct ClusterLimits {
    /// Connections.
    pub connections: Arc<Limit>,
    /// Requests that wait for a connection.
    pub pending: Arc<Limit>,
    /// Requests under way.
    pub requests: Arc<Limit>,
    /// Retries under way.
    pub retries: Arc<Limit>,
}

impl ClusterLimits {
    /// With nothing under way.
    pub fn new(config: &ConnectionLimits) -> Self {
        let limits = Self::default();
        limits.set(config);
        limits
    }

    /// Other ceilings; what is under way stays counted.
    pub fn set(&self, config: &ConnectionLimits) {
        self.connections.set(config.max_connections);
        self.pending.set(config.max_pending_requests);
        self.requests.set(config.max_requests);
        self.retries.set(config.max_retries);
    }
}

/// A counter with a ceiling.
#[derive(Debug)]
pub struct Limit {
    max: AtomicU32,
    used: AtomicU32,
    refused: AtomicU64,
}

impl Limit {
    /// `None`: no ceiling.
    pub fn new(max: Option<u32>) -> Self {
        Self { max: AtomicU32::new(max.unwrap_or(u32::MAX)), used: AtomicU32::new(0), refused: AtomicU64::new(0) }
    }

    /// Another ceiling. What is above it already is let finish.
    pub fn set(&self, max: Option<u32>) {
        self.max.store(max.unwrap_or(u32::MAX), Relaxed);
    }

    /// A place, given back when the permit is dropped; `None` at the ceiling.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max.load(Relaxed);
        match self.used.fetch_update(Relaxed, Relaxed, |used| (used < max).then(|| used + 1)) {
            Ok(_) => Some(Permit(self.clone())),
            Err(_) => {
                self.refused.fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// How many permits are out.
    pub fn used(&self) -> u32 {
        self.used.load(Relaxed)
    }

    /// The ceiling.
    pub fn max(&self) -> Option<u32> {
        Some(self.max.load(Relaxed)).filter(|m| *m != u32::MAX)
    }

    /// How often there was no place.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self::new(None)
    }
}

/// A place under a [`Limit`].
#[derive(Debug)]
#[must_use = "the place is given back when the permit is dropped"]
pub struct Permit(Arc<Limit>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_a_lower_ceiling_lets_finish() {
        let limit = Arc::new(Limit::new(Some(2)));
        let a = limit.try_acquire().unwrap();
        let b = limit.try_acquire().unwrap();
        assert!(limit.try_acquire().is_none());
        assert_eq!((limit.used(), limit.refused()), (2, 1));
        limit.set(Some(1));
        drop(a);
        assert!(limit.try_acquire().is_none());
        drop(b);
        assert!(limit.try_acquire().is_some());
        assert_eq!(limit.used(), 0);
    }

    #[test]
    fn many_threads_never_pass_the_ceiling() {
        let limit = Arc::new(Limit::new(Some(3)));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let permit = limit.try_acquire();
                        assert!(limit.used() <= 3);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(limit.used(), 0);
    }
}
