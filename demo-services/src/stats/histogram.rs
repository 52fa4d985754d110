//! A histogram of latencies with a relative error of at most 1/32 (as HdrHistogram has it), small and mergeable.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Each power of two is cut into 2^5 equal buckets.
const SUB_BITS: u32 = 5;
/// Longer ones are counted as this long: about 19 hours, in microseconds.
const LONGEST: u64 = (1 << 36) - 1;

/// Counts by bucket of microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    counts: BTreeMap<u16, u64>,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LONGEST).min(LONGEST);
        *self.counts.entry(bucket(us)).or_default() += 1;
    }

    /// Takes over the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (b, n) in &other.counts {
            *self.counts.entry(*b).or_default() += n;
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The smallest bucket bound that at least the share `q` (0 to 1) of all is at or below; zero when empty.
    pub fn quantile(&self, q: f64) -> Duration {
        let total = self.count();
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (b, n) in &self.counts {
            seen += n;
            if seen >= rank {
                return Duration::from_micros(upper(*b));
            }
        }
        Duration::ZERO
    }

    /// How many took at most so long (to the precision of a bucket).
    pub fn count_within(&self, limit: Duration) -> u64 {
        let limit = bucket(u64::try_from(limit.as_micros()).unwrap_or(LONGEST).min(LONGEST));
        self.counts.range(..=limit).map(|(_, n)| n).sum()
    }
}

fn bucket(us: u64) -> u16 {
    if us < 1 << SUB_BITS {
        return us as u16;
    }
    let exponent = 63 - us.leading_zeros();
    let shift = exponent - SUB_BITS;
    // `us >> shift` lies in 32..64: the leading one is taken off and the exponent put in its place.
    ((u64::from(shift + 1) << SUB_BITS) + ((us >> shift) - (1 << SUB_BITS))) as u16
}

fn upper(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 1 << SUB_BITS {
        return bucket;
    }
    let shift = (bucket >> SUB_BITS) - 1;
    let sub = bucket & ((1 << SUB_BITS) - 1);
    (((1 << SUB_BITS) + sub + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_in_a_bucket_that_is_at_most_a_32nd_too_high() {
        let mut previous = 0;
        for us in (0..4096).chain((12..36).flat_map(|e| [(1u64 << e) - 1, 1 << e, (1 << e) + 1, (1 << e) * 3 / 2])) {
            let b = bucket(us);
            assert!(upper(b) >= us, "{us}");
            assert!(upper(b) - us <= us / 32, "{us} {}", upper(b));
            if us > previous {
                assert!(b >= bucket(previous), "{us} after {previous}");
            }
            previous = us;
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut h = Histogram::default();
        for ms in 1..=1000 {
            h.record(Duration::from_millis(ms));
        }
        for (q, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let got = h.quantile(q).as_secs_f64() * 1e3;
            assert!((got - ms).abs() <= ms / 31.0, "{q}: {got} is not {ms}");
        }
        assert_eq!(h.count_within(Duration::from_secs(60)), 1000);
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn merging_is_as_recording_both() {
        let (mut a, mut b, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for ms in 0..50 {
            a.record(Duration::from_millis(ms * 7));
            b.record(Duration::from_millis(ms * 3));
            both.record(Duration::from_millis(ms * 7));
            both.record(Duration::from_millis(ms * 3));
        }
        a.merge(&b);
        assert_eq!(a, both);
    }
}
