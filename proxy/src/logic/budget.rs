//! The retry budget of a cluster: over a sliding window retries may make up a share of the requests, and a few a second
//! are always allowed (GEP-3388; Finagle's `RetryBudget`). It keeps a failing destination from being finished off by
//! its callers: whatever fails, and however many route policies ask for retries, the load grows by the share at most.
//!
//! Unlike Finagle's, the allowance per second is not saved up over the window, and is not on top of the share: it is a
//! floor. A quiet minute buys no burst.

use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};
use weir_config::model::RetryBudget as Config;

const BUCKETS: u64 = 10;

/// The budget. A deposit is one compare-and-swap; a withdrawal, being rare, takes a lock.
#[derive(Debug)]
pub struct RetryBudget {
    config: Config,
    base: Instant,
    requests: Window,
    retries: Window,
    /// The number of a second since `base`, and the retries in it.
    second: Mutex<(u64, u32)>,
}

impl RetryBudget {
    /// A budget into which nothing has been paid. The window is at least 10 ms.
    pub fn new(config: Config, now: Instant) -> Self {
        let bucket = (config.interval.as_nanos() as u64 / BUCKETS).max(1_000_000);
        Self {
            config,
            base: now,
            requests: Window::new(bucket),
            retries: Window::new(bucket),
            second: Mutex::new((0, 0)),
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counts a first try.
    pub fn deposit(&self, now: Instant) {
        self.requests.add(self.nanos(now));
    }

    /// Pays for one retry, or refuses it.
    pub fn try_withdraw(&self, now: Instant) -> bool {
        let nanos = self.nanos(now);
        let mut second = self.second.lock();
        let this = nanos / 1_000_000_000;
        if second.0 != this {
            *second = (this, 0);
        }
        let by_share = self.retries.sum(nanos) < self.share_of(self.requests.sum(nanos));
        let allowed = by_share || second.1 < self.config.min_retries_per_second;
        if allowed {
            second.1 = second.1.saturating_add(1);
            self.retries.add(nanos);
        }
        allowed
    }

    /// How much of what the window allows is left, 0 to 1.
    pub fn remaining_ratio(&self, now: Instant) -> f64 {
        let nanos = self.nanos(now);
        let floor = self.config.interval.as_secs_f64() * f64::from(self.config.min_retries_per_second);
        let allowed = (self.share_of(self.requests.sum(nanos)) as f64).max(floor);
        let used = self.retries.sum(nanos) as f64;
        if used == 0.0 { 1.0 } else { (1.0 - used / allowed.max(1.0)).clamp(0.0, 1.0) }
    }

    fn share_of(&self, requests: u64) -> u64 {
        (u128::from(requests) * u128::from(self.config.share.millionths()) / 1_000_000) as u64
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).min(Duration::from_secs(u32::MAX.into())).as_nanos() as u64
    }
}

/// Counts over the last [`BUCKETS`] buckets, the present one included. A bucket is the low half of its number and its
/// count in one word, so that a bucket left over from an earlier round is recognised and never counted.
#[derive(Debug)]
struct Window {
    bucket_nanos: u64,
    buckets: [AtomicU64; BUCKETS as usize],
}

impl Window {
    fn new(bucket_nanos: u64) -> Self {
        Self { bucket_nanos, buckets: Default::default() }
    }

    fn add(&self, nanos: u64) {
        let number = nanos / self.bucket_nanos;
        let bucket = &self.buckets[(number % BUCKETS) as usize];
        let stamp = number as u32;
        let _ = bucket.fetch_update(Relaxed, Relaxed, |word| {
            let count = if (word >> 32) as u32 == stamp { (word as u32).saturating_add(1) } else { 1 };
            Some(u64::from(stamp) << 32 | u64::from(count))
        });
    }

    fn sum(&self, nanos: u64) -> u64 {
        let stamp = (nanos / self.bucket_nanos) as u32;
        let recent = |word: u64| u64::from(stamp.wrapping_sub((word >> 32) as u32)) < BUCKETS;
        self.buckets
            .iter()
            .map(|b| b.load(Relaxed))
            .filter(|word| recent(*word))
            .map(|word| u64::from(word as u32))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_config::model::Fraction;

    fn config(percent: f64, seconds: u64, min: u32) -> Config {
        Config {
            share: Fraction::from_percent(percent).unwrap(),
            interval: Duration::from_secs(seconds),
            min_retries_per_second: min,
        }
    }

    #[test]
    fn the_share_of_the_window_and_no_more() {
        let t = Instant::now();
        let budget = RetryBudget::new(config(20.0, 10, 0), t);
        assert!(!budget.try_withdraw(t));
        for _ in 0..100 {
            budget.deposit(t);
        }
        assert_eq!((0..100).filter(|_| budget.try_withdraw(t)).count(), 20);
        assert_eq!(budget.remaining_ratio(t), 0.0);
        assert!(!budget.try_withdraw(t + Duration::from_secs(9)));
        // All of it has left the window.
        assert!(!budget.try_withdraw(t + Duration::from_secs(11)));
        assert_eq!(budget.remaining_ratio(t + Duration::from_secs(11)), 1.0);
    }

    #[test]
    fn a_few_a_second_are_always_allowed_and_not_saved_up() {
        let t = Instant::now();
        let budget = RetryBudget::new(config(20.0, 10, 3), t);
        let later = t + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| budget.try_withdraw(later)).count(), 3);
        assert_eq!((0..100).filter(|_| budget.try_withdraw(later + Duration::from_secs(1))).count(), 3);
    }

    #[test]
    fn threads_together_stay_within_the_share() {
        let t = Instant::now();
        let budget = RetryBudget::new(config(10.0, 10, 0), t);
        let retried: usize = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..5_000)
                            .filter(|_| {
                                budget.deposit(t);
                                budget.try_withdraw(t)
                            })
                            .count()
                    })
                })
                .collect();
            runs.into_iter().map(|r| r.join().unwrap()).sum()
        });
        assert_eq!(retried, 2_000);
    }

    proptest! {
        /// Retries never exceed the share of all requests so far plus the allowance of the seconds that were touched,
        /// for any arrival of requests and failures.
        #[test]
        fn amplification_is_bounded(
            percent in 0.0f64..100.0,
            seconds in 1u64..20,
            min in 0u32..4,
            steps in prop::collection::vec((0u64..1_500, 0u32..30, 0u32..60), 1..80),
        ) {
            let start = Instant::now();
            let budget = RetryBudget::new(config(percent, seconds, min), start);
            let (mut t, mut requests, mut retries) = (start, 0u64, 0u64);
            for (millis, arriving, asking) in steps {
                t += Duration::from_millis(millis);
                for _ in 0..arriving {
                    budget.deposit(t);
                    requests += 1;
                }
                for _ in 0..asking {
                    retries += u64::from(budget.try_withdraw(t));
                }
                let ratio = budget.remaining_ratio(t);
                prop_assert!((0.0..=1.0).contains(&ratio));
                let seconds_touched = (t - start).as_secs() + 1;
                let bound = requests as f64 * percent / 100.0 + (seconds_touched * u64::from(min)) as f64;
                prop_assert!(retries as f64 <= bound + 1e-6, "{retries} retries of {requests} requests, at most {bound}");
            }
        }
    }
}
