//! What viewers felt in a stretch of time, in a few numbers.

use crate::{services::HOME_DEADLINE, stats::Window};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The kinds of requests, in the order of a visit.
const KINDS: [&str; 6] = ["login", "home", "manifest", "segment", "heartbeat", "subscribe"];

/// How one kind of request fared, from the viewer's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    /// How many there were.
    pub requests: u64,
    /// How many were not answered as asked.
    pub failed: u64,
    /// Milliseconds from the intended start.
    pub p50_ms: f64,
    /// 99 of 100 took at most this.
    pub p99_ms: f64,
    /// 999 of 1000 took at most this.
    pub p999_ms: f64,
}

/// What viewers felt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// By kind.
    pub kinds: BTreeMap<String, Kind>,
    /// Visits to the player.
    pub plays: u64,
    /// The share of them (0 to 1) in which every segment came.
    pub playback_success: f64,
    /// Players that never showed a picture.
    pub failed_starts: u64,
    /// Times that a picture stood still because a segment was late.
    pub rebuffers: u64,
    /// How long pictures stood still, together.
    pub rebuffer_ms: u64,
    /// The share of home pages (0 to 1) that came, and came within the deadline.
    pub home_in_time: f64,
    /// The share of home pages (0 to 1) that came with popular titles in place of personal ones.
    pub home_not_personal: f64,
    /// People who gave up subscribing.
    pub subscriptions_lost: u64,
    /// Viewers the generator could not let in: the run is not to be trusted unless 0.
    pub turned_away: u64,
}

impl Report {
    /// From what was recorded.
    pub fn new(window: &Window) -> Self {
        let kind = |name: &&str| {
            let s = window.of(name);
            let ms = |q| s.latency.quantile(q).as_secs_f64() * 1e3;
            let kind =
                Kind { requests: s.total(), failed: s.failed, p50_ms: ms(0.5), p99_ms: ms(0.99), p999_ms: ms(0.999) };
            ((*name).to_owned(), kind)
        };
        let (home, play) = (window.of("home"), window.of("play"));
        let share = |n: u64, of: u64, none: f64| if of == 0 { none } else { n as f64 / of as f64 };
        // Failed pages may have failed fast: those do not count as in time.
        let in_time = home.latency.count_within(HOME_DEADLINE).saturating_sub(home.failed).min(home.ok);
        Self {
            kinds: KINDS.iter().map(kind).collect(),
            plays: play.total(),
            playback_success: play.success(),
            failed_starts: window.of("start").failed,
            rebuffers: window.counted("rebuffers"),
            rebuffer_ms: window.counted("rebuffer_ms"),
            home_in_time: share(in_time, home.total(), 1.0),
            home_not_personal: share(window.counted("home_not_personal"), home.total(), 0.0),
            subscriptions_lost: window.counted("subscriptions_lost"),
            turned_away: window.counted("turned_away"),
        }
    }

    /// The numbers of a kind; zeros if there was none.
    pub fn of(&self, kind: &str) -> Kind {
        self.kinds.get(kind).copied().unwrap_or_default()
    }

    /// The share of a kind's requests that were answered as asked.
    pub fn success(&self, kind: &str) -> f64 {
        let k = self.of(kind);
        if k.requests == 0 { 1.0 } else { 1.0 - k.failed as f64 / k.requests as f64 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:>8} {:>8} {:>9} {:>9} {:>9}", "", "requests", "failed", "p50 ms", "p99 ms", "p99.9 ms")?;
        for name in KINDS {
            let k = self.of(name);
            writeln!(
                f,
                "{name:<10} {:>8} {:>8} {:>9.1} {:>9.1} {:>9.1}",
                k.requests, k.failed, k.p50_ms, k.p99_ms, k.p999_ms
            )?;
        }
        writeln!(
            f,
            "playback {:.2} % of {} plays, {} failed starts, {} rebuffers ({} ms); home in time {:.2} %, not personal \
             {:.2} %; {} subscriptions lost",
            self.playback_success * 100.0,
            self.plays,
            self.failed_starts,
            self.rebuffers,
            self.rebuffer_ms,
            self.home_in_time * 100.0,
            self.home_not_personal * 100.0,
            self.subscriptions_lost
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Timeline;
    use std::time::Duration;

    #[test]
    fn a_report_counts_late_and_failed_pages_as_not_in_time() {
        let t = Timeline::default();
        for (ok, ms) in [(true, 20), (true, 700), (true, 900), (false, 5)] {
            t.record(1, "home", ok, Duration::from_millis(ms));
        }
        t.record(1, "play", true, Duration::from_secs(3));
        t.record(2, "play", false, Duration::from_secs(1));
        t.count(1, "home_not_personal", 1);
        let r = Report::new(&t.window(0, 10));
        assert!((r.home_in_time - 0.5).abs() < 1e-9);
        assert!((r.home_not_personal - 0.25).abs() < 1e-9);
        assert!((r.playback_success - 0.5).abs() < 1e-9);
        assert_eq!((r.of("home").requests, r.of("home").failed), (4, 1));
        assert!((r.success("home") - 0.75).abs() < 1e-9);
    }
}
