//! Outcomes by second. Bounded: the last quarter of an hour, and at most so many kinds of things.

use super::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Seconds that are kept.
const KEPT: usize = 900;
/// Names that are told apart; what comes beyond is counted under `other`.
const NAMES: usize = 64;

/// Seconds since the epoch, now.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// How one kind of request fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Answered as asked.
    pub ok: u64,
    /// Not.
    pub failed: u64,
    /// How long all of them took, failed ones too.
    pub latency: Histogram,
}

impl Series {
    /// How many there were.
    pub fn total(&self) -> u64 {
        self.ok + self.failed
    }

    /// The share that was answered as asked, 0 to 1; 1 when there was none.
    pub fn success(&self) -> f64 {
        if self.total() == 0 { 1.0 } else { self.ok as f64 / self.total() as f64 }
    }

    /// Takes over another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.latency.merge(&other.latency);
    }
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Requests by kind.
    pub series: BTreeMap<String, Series>,
    /// Plain counts by name.
    pub counts: BTreeMap<String, u64>,
}

impl Window {
    /// Takes over another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (name, s) in &other.series {
            self.series.entry(name.clone()).or_default().merge(s);
        }
        for (name, n) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += n;
        }
    }

    /// The requests of a kind; an empty series if there was none.
    pub fn of(&self, kind: &str) -> Series {
        self.series.get(kind).cloned().unwrap_or_default()
    }

    /// A count; 0 if there was none.
    pub fn counted(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }
}

/// The record of one process.
#[derive(Debug, Default)]
pub struct Timeline {
    seconds: Mutex<VecDeque<(u64, Window)>>,
}

impl Timeline {
    /// A request that was meant to start in `second` (since the epoch), and what became of it.
    pub fn record(&self, second: u64, kind: &str, ok: bool, latency: Duration) {
        self.with(second, |w| {
            let s = entry(&mut w.series, kind);
            if ok {
                s.ok += 1;
            } else {
                s.failed += 1;
            }
            s.latency.record(latency);
        });
    }

    /// Adds to a plain count.
    pub fn count(&self, second: u64, name: &str, n: u64) {
        self.with(second, |w| *entry(&mut w.counts, name) += n);
    }

    /// Everything in `from..to` (seconds since the epoch), together.
    pub fn window(&self, from: u64, to: u64) -> Window {
        let mut all = Window::default();
        for (second, w) in self.seconds.lock().iter() {
            if (from..to).contains(second) {
                all.merge(w);
            }
        }
        all
    }

    fn with(&self, second: u64, change: impl FnOnce(&mut Window)) {
        let mut seconds = self.seconds.lock();
        // Nearly always the last or one of the last: look from the end.
        let place = seconds.iter().rposition(|(s, _)| *s <= second).map_or(0, |i| i + 1);
        let at = match place.checked_sub(1).filter(|i| seconds[*i].0 == second) {
            Some(i) => i,
            None => {
                seconds.insert(place, (second, Window::default()));
                place
            }
        };
        change(&mut seconds[at].1);
        if seconds.len() > KEPT {
            seconds.pop_front();
        }
    }
}

fn entry<'a, T: Default>(map: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    let name = if map.contains_key(name) || map.len() < NAMES { name } else { "other" };
    map.entry(name.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_what_was_meant_to_start_in_it() {
        let t = Timeline::default();
        // Out of order, as slow requests are recorded late.
        for (second, ok) in [(10, true), (12, false), (11, true), (10, false), (13, true)] {
            t.record(second, "home", ok, Duration::from_millis(second));
        }
        t.count(11, "rebuffers", 2);
        let w = t.window(10, 12);
        assert_eq!((w.of("home").ok, w.of("home").failed), (2, 1));
        assert_eq!(w.counted("rebuffers"), 2);
        assert_eq!(t.window(12, 20).of("home").total(), 2);
        assert_eq!(t.window(14, 20), Window::default());
        assert!((w.of("nothing").success() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn it_forgets_the_oldest_and_folds_names_beyond_the_limit() {
        let t = Timeline::default();
        for s in 0..2 * KEPT as u64 {
            t.record(s, "x", true, Duration::ZERO);
        }
        assert_eq!(t.window(0, u64::MAX).of("x").total(), KEPT as u64);
        for i in 0..200 {
            t.record(5000, &format!("k{i}"), true, Duration::ZERO);
        }
        let w = t.window(5000, 5001);
        assert_eq!(w.series.len(), NAMES + 1);
        assert_eq!(w.of("other").total(), 200 - NAMES as u64);
    }
}
