//! The traffic: viewers who come at random moments, whatever the platform is doing (an open loop), log in, look at the
//! home page, watch, and sometimes subscribe. The same seed brings the same viewers at the same moments.
//!
//! Latency is counted from the moment a viewer meant to act, not from when the generator got round to it, so that a slow
//! platform cannot hide behind a slow generator (no coordinated omission).

mod journey;
mod report;

pub use report::{Kind, Report};

use crate::{
    peers::{Client, Peers},
    stats::{Timeline, unix_seconds},
};
use journey::Viewer;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// Viewers at once; those who come when it is full are turned away and counted as `turned_away`.
const MOST_AT_ONCE: usize = 4000;

/// How many viewers come, and what they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Viewers who come in a second, on average.
    pub rate: f64,
    /// The same seed, the same viewers.
    pub seed: u64,
    /// Segments that each of them watches.
    pub segments: u32,
    /// How much of each segment they fetch, as a range (a low picture quality); at most a whole segment.
    pub segment_bytes: u64,
    /// Ends after so long; `None`: when told to.
    pub length: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: 20.0, seed: 1, segments: 3, segment_bytes: 128 * 1024, length: None }
    }
}

/// Lets viewers come until the time is over or `stop`, then waits for those who are still there (at most ten seconds).
pub async fn run(options: Options, peers: Peers, timeline: Arc<Timeline>, stop: CancellationToken) {
    let client = Client::new(peers, timeline.clone());
    let mut arrivals = Arrivals::new(options.seed, options.rate);
    let start = Instant::now();
    let mut next = start;
    let mut there = JoinSet::new();
    for number in 0u64.. {
        next += arrivals.gap();
        if options.length.is_some_and(|l| next - start > l) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = stop.cancelled() => break,
        }
        while there.try_join_next().is_some() {}
        if there.len() >= MOST_AT_ONCE {
            timeline.count(unix_seconds(), "turned_away", 1);
            continue;
        }
        let viewer = Viewer::new(number, options.clone(), client.clone(), timeline.clone());
        there.spawn(viewer.watch(next));
    }
    let all_gone = async { while there.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(10), all_gone).await;
}

/// The moments of arrival: a Poisson process.
struct Arrivals {
    random: SmallRng,
    rate: f64,
}

impl Arrivals {
    fn new(seed: u64, rate: f64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), rate: if rate > 0.0 { rate } else { 1e-9 } }
    }

    fn gap(&mut self) -> Duration {
        // An exponentially distributed gap: -ln(U) / rate, with U in (0, 1].
        let u: f64 = 1.0 - self.random.random::<f64>();
        Duration::from_secs_f64((-u.ln() / self.rate).min(3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_brings_the_same_viewers_at_the_asked_rate() {
        let gaps = |seed| {
            let mut a = Arrivals::new(seed, 50.0);
            (0..10_000).map(|_| a.gap()).collect::<Vec<_>>()
        };
        assert_eq!(gaps(7), gaps(7));
        assert_ne!(gaps(7), gaps(8));
        let total: Duration = gaps(7).iter().sum();
        assert!((total.as_secs_f64() - 200.0).abs() < 10.0, "{total:?}");
    }
}
