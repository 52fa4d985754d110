//! One after the other, by weight: gRPC's static stride scheduler (gRFC A58). One shared counter and no lock; over a
//! whole cycle each endpoint gets its exact share, spread out evenly.

use super::Group;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const MAX: u64 = 65_535;

/// The order of one level.
#[derive(Debug)]
pub(super) struct Stride {
    weights: Box<[u64]>,
    next: AtomicU64,
}

impl Stride {
    /// The heaviest is scaled to [`MAX`], the lightest is at least 1.
    pub(super) fn new(weights: impl Iterator<Item = u64>) -> Self {
        let weights: Vec<u64> = weights.collect();
        let heaviest = u128::from(weights.iter().copied().max().unwrap_or(1).max(1));
        let scale = |w: &u64| ((u128::from(*w) * u128::from(MAX) / heaviest) as u64).max(1);
        Self { weights: weights.iter().map(scale).collect(), next: AtomicU64::new(0) }
    }

    pub(super) fn pick(&self, group: &Group, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.weights.len();
        // Each round of n takes at least the heaviest; when it is not usable, a few rounds may pass.
        for _ in 0..n * 4 {
            let ticket = self.next.fetch_add(1, Relaxed);
            let (at, round) = ((ticket % n as u64) as usize, ticket / n as u64);
            if self.is_due(at, round) && usable(group.slots[at]) {
                return Some(group.slots[at]);
            }
        }
        group.slots.iter().copied().find(|slot| usable(*slot))
    }

    /// An endpoint of weight w is due in w of [`MAX`] rounds.
    fn is_due(&self, at: usize, round: u64) -> bool {
        let weight = self.weights[at];
        let offset = (MAX / 2).wrapping_mul(at as u64);
        let step = weight.wrapping_mul(round % MAX).wrapping_add(offset) % MAX;
        step >= MAX - weight
    }
}
