//! What became of each of the last changes.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant, SystemTime},
};

/// How many changes are remembered.
pub(super) const KEPT: usize = 1_000;
/// Times kept for each change; of more proxies, a sample.
const TIMES: usize = 1_024;

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeStatus {
    /// The version of the documents that it made.
    pub version: u64,
    /// When it was seen first.
    pub at: SystemTime,
    /// How many connected proxies it concerns.
    pub concerned: usize,
    /// How many of them have applied it.
    pub applied: usize,
    /// How many of them have refused a part of it.
    pub refused: usize,
    /// Half of those that applied it did so within this time.
    pub p50: Option<Duration>,
    /// 99 of 100 did.
    pub p99: Option<Duration>,
    /// No connected proxy is left that has neither applied nor refused it.
    pub complete: bool,
}

#[derive(Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    at: SystemTime,
    since: Instant,
    waiting: HashSet<u64>,
    applied: usize,
    refused: usize,
    /// Milliseconds with a fraction.
    times: Vec<f32>,
}

impl Change {
    /// A proxy is concerned.
    pub(super) fn concerns(&mut self, proxy: u64) {
        self.waiting.insert(proxy);
    }

    /// A proxy has applied it; after how long.
    pub(super) fn applied(&mut self, proxy: u64, now: Instant) -> Option<Duration> {
        if !self.waiting.remove(&proxy) {
            return None;
        }
        let took = now.saturating_duration_since(self.since);
        let ms = took.as_secs_f32() * 1000.0;
        if self.times.len() < TIMES {
            self.times.push(ms);
        } else {
            // Spread over the sample: 677 and 1,024 have no common factor.
            self.times[self.applied.wrapping_mul(677) % TIMES] = ms;
        }
        self.applied += 1;
        Some(took)
    }

    /// A proxy has refused a part of it.
    pub(super) fn refused(&mut self, proxy: u64) {
        if self.waiting.remove(&proxy) {
            self.refused += 1;
        }
    }

    /// A proxy has gone before it settled the change.
    pub(super) fn left(&mut self, proxy: u64) {
        self.waiting.remove(&proxy);
    }

    /// `looked`: the version that all connected proxies' streams have looked at.
    pub(super) fn status(&self, looked: u64) -> ChangeStatus {
        let mut times = self.times.clone();
        times.sort_by(f32::total_cmp);
        let at = |share: f64| {
            #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let rank = (share * times.len() as f64).ceil() as usize;
            times.get(rank.saturating_sub(1)).map(|ms| Duration::from_secs_f32(ms / 1000.0))
        };
        ChangeStatus {
            version: self.version,
            at: self.at,
            concerned: self.waiting.len() + self.applied + self.refused,
            applied: self.applied,
            refused: self.refused,
            p50: at(0.5),
            p99: at(0.99),
            complete: self.waiting.is_empty() && looked >= self.version,
        }
    }
}

/// The last changes, by version.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<u64, Change>);

impl Changes {
    /// A version is there. Says whether that is news.
    pub(super) fn note(&mut self, version: u64, now: Instant) -> bool {
        // A stream that is late must not make a version out of order, or bring a forgotten one back.
        if self.0.last_key_value().is_some_and(|(last, _)| version <= *last) {
            return false;
        }
        let change = Change {
            version,
            at: SystemTime::now(),
            since: now,
            waiting: HashSet::new(),
            applied: 0,
            refused: 0,
            times: Vec::new(),
        };
        self.0.insert(version, change);
        if self.0.len() > KEPT {
            self.0.pop_first();
        }
        true
    }

    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.0.values()
    }

    /// The first at or after a version, if that version is not older than all that are remembered.
    pub(super) fn at(&self, version: u64) -> Option<&Change> {
        let (oldest, _) = self.0.first_key_value()?;
        if version < *oldest && self.0.len() >= KEPT {
            return None;
        }
        self.0.range(version..).next().map(|(_, change)| change)
    }

    pub(super) fn exactly(&mut self, version: u64) -> Option<&mut Change> {
        self.0.get_mut(&version)
    }

    /// Those after `from`, up to and with `to`.
    pub(super) fn between(&mut self, from: u64, to: u64) -> impl Iterator<Item = &mut Change> {
        let range = if from < to { from + 1..to + 1 } else { 0..0 };
        self.0.range_mut(range).map(|(_, change)| change)
    }
}
