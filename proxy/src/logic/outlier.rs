//! Circuit breaking by outcome: an endpoint that fails is taken out of balancing for a while (gRFC A50, Envoy's outlier
//! detection; the words are Envoy's).
//!
//! Per request there are only relaxed atomics of the endpoint. Ejections are decided under the cluster's lock, when a
//! threshold is hit or at the sweep that ends each interval. Failures of the connection count as gateway failures.

mod health;
#[cfg(test)]
mod simulation;

pub use health::{EndpointHealth, Outcome};

use parking_lot::Mutex;
use smallvec::SmallVec;
use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};
use weir_config::model::{FailurePercentage, OutlierDetection};

/// The breaker of one cluster, over the endpoints of one snapshot. Each endpoint's [`EndpointHealth`] lives on in the
/// next snapshot's `Outlier`.
#[derive(Debug)]
pub struct Outlier {
    config: OutlierDetection,
    slots: Box<[Arc<EndpointHealth>]>,
    base: Instant,
    /// Nanoseconds since `base`.
    next_sweep: AtomicU64,
    ejected: AtomicU32,
    generation: AtomicU64,
    deciding: Mutex<()>,
}

/// What became of an endpoint, for metrics, logs and `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The endpoint's place in the snapshot.
    pub slot: usize,
    /// What happened.
    pub to: Transition,
}

/// A step of an endpoint's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Out, for so long at least.
    Ejected(Cause, Duration),
    /// Back in.
    Returned,
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// So many 5xx in a row.
    Consecutive5xx,
    /// So many 502, 503, 504 or connection failures in a row.
    ConsecutiveGatewayFailure,
    /// Its share of failures in an interval.
    FailurePercentage,
}

impl Cause {
    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Self::FailurePercentage => "failure_percentage",
        }
    }
}

/// The changes of one sweep. Usually none, and then without allocation.
pub type Changes = SmallVec<[Change; 2]>;

impl Outlier {
    /// A breaker over these endpoints, some of which may be ejected already. The first sweep is one interval away.
    pub fn new(config: OutlierDetection, slots: impl Into<Box<[Arc<EndpointHealth>]>>, now: Instant) -> Self {
        let slots = slots.into();
        let ejected = slots.iter().filter(|s| s.is_ejected()).count() as u32;
        let next_sweep = AtomicU64::new(nanos(config.interval));
        Self {
            config,
            slots,
            base: now,
            next_sweep,
            ejected: AtomicU32::new(ejected),
            generation: AtomicU64::new(0),
            deciding: Mutex::default(),
        }
    }

    /// Keeps the sweep that its predecessor had due, so that frequent changes of the configuration do not put sweeps
    /// off for ever.
    pub fn after(self, predecessor: &Self) -> Self {
        let due = predecessor.base + Duration::from_nanos(predecessor.next_sweep.load(Relaxed));
        let due = nanos(due.saturating_duration_since(self.base)).min(nanos(self.config.interval));
        self.next_sweep.store(due, Relaxed);
        self
    }

    /// What it was made with.
    pub fn config(&self) -> &OutlierDetection {
        &self.config
    }

    /// How many endpoints are out.
    pub fn ejected(&self) -> u32 {
        self.ejected.load(Relaxed)
    }

    /// How many endpoints there are.
    pub fn total(&self) -> usize {
        self.slots.len()
    }

    /// Whether all endpoints are out.
    pub fn is_open(&self) -> bool {
        !self.slots.is_empty() && self.ejected() as usize >= self.slots.len()
    }

    /// Whether the endpoint may be chosen. Outside the snapshot's range: no.
    pub fn is_available(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|s| !s.is_ejected())
    }

    /// Changes whenever an endpoint is ejected or returns: [`super::pick::View::generation`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Counts an outcome; says so when it was the one that ejects.
    pub fn record(&self, slot: usize, outcome: Outcome, now: Instant) -> Option<Change> {
        let health = self.slots.get(slot)?;
        let counted = health.count(outcome, self.config.failure_percentage.is_some());
        let hit = |count: u32, threshold: Option<u32>| threshold.is_some_and(|t| t > 0 && count >= t);
        let cause = if hit(counted.gateway_failures, self.config.consecutive_gateway_failure) {
            Cause::ConsecutiveGatewayFailure
        } else if hit(counted.server_errors, self.config.consecutive_5xx) {
            Cause::Consecutive5xx
        } else {
            return None;
        };
        let _deciding = self.deciding.lock();
        self.eject(slot, cause, now)
    }

    /// Ends the interval if it is due: returns endpoints whose time is over, looks at failure shares, and starts the
    /// next interval. One load and a comparison when it is not due, so it is called on each request.
    pub fn sweep(&self, now: Instant) -> Changes {
        let at = nanos(now.saturating_duration_since(self.base));
        if at < self.next_sweep.load(Relaxed) {
            return Changes::new();
        }
        self.sweep_now(at, now)
    }

    #[cold]
    fn sweep_now(&self, at: u64, now: Instant) -> Changes {
        let mut changes = Changes::new();
        let Some(_deciding) = self.deciding.try_lock() else { return changes };
        if at < self.next_sweep.load(Relaxed) {
            return changes;
        }
        self.next_sweep.store(at.saturating_add(nanos(self.config.interval).max(1)), Relaxed);
        for (slot, health) in self.slots.iter().enumerate() {
            if health.try_return(now) {
                self.ejected.fetch_sub(1, Relaxed);
                self.generation.fetch_add(1, Release);
                changes.push(Change { slot, to: Transition::Returned });
            }
        }
        if let Some(share) = self.config.failure_percentage {
            self.eject_by_share(share, now, &mut changes);
        }
        changes
    }

    /// Envoy's and A50's failure percentage: the counts of the interval that ends now are taken and start anew.
    fn eject_by_share(&self, config: FailurePercentage, now: Instant, changes: &mut Changes) {
        let counts: SmallVec<[(u32, u32); 32]> = self.slots.iter().map(|s| s.take_interval()).collect();
        let volume = config.request_volume.max(1);
        let enough = |(good, bad): (u32, u32)| good.saturating_add(bad) >= volume;
        if (counts.iter().filter(|c| enough(**c)).count() as u64) < u64::from(config.minimum_hosts) {
            return;
        }
        for (slot, (good, bad)) in counts.into_iter().enumerate() {
            let failing = u64::from(bad) * 100 >= u64::from(config.threshold) * (u64::from(good) + u64::from(bad));
            if enough((good, bad)) && failing {
                changes.extend(self.eject(slot, Cause::FailurePercentage, now));
            }
        }
    }

    /// Under the lock.
    fn eject(&self, slot: usize, cause: Cause, now: Instant) -> Option<Change> {
        let health = &self.slots[slot];
        if health.is_ejected() {
            return None;
        }
        if !self.may_eject_one_more() {
            // So many in a row again before the lock is taken for it again.
            health.reset_counts();
            return None;
        }
        let length = health.eject(&self.config, now);
        self.ejected.fetch_add(1, Relaxed);
        self.generation.fetch_add(1, Release);
        Some(Change { slot, to: Transition::Ejected(cause, length) })
    }

    fn may_eject_one_more(&self) -> bool {
        let ejected = u64::from(self.ejected());
        ejected == 0 || (ejected + 1) * 100 <= u64::from(self.config.max_ejection_percent) * self.slots.len() as u64
    }

    /// What must hold after each step.
    #[cfg(test)]
    fn check_invariants(&self) {
        let out = self.slots.iter().filter(|s| s.is_ejected()).count();
        assert_eq!(out, self.ejected() as usize);
        let most = (usize::from(self.config.max_ejection_percent) * self.slots.len() / 100).max(1);
        assert!(out <= most, "{out} of {} are out", self.slots.len());
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
