//! One of several destinations by weight and a draw, as `HTTPRoute` back ends share their traffic.

use super::below;

/// Weights, summed up once when the route is built.
#[derive(Debug, Clone)]
pub struct Weighted(Box<[u64]>);

impl Weighted {
    /// `None` if there is no weight above zero.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut sum = 0u64;
        let upto: Box<[u64]> = weights
            .into_iter()
            .map(|w| {
                sum += u64::from(w);
                sum
            })
            .collect();
        (sum > 0).then_some(Self(upto))
    }

    /// The index that a uniform draw falls on. Never one of weight 0.
    pub fn choose(&self, draw: u64) -> usize {
        let point = below(draw, self.0.last().copied().unwrap_or(0));
        self.0.partition_point(|upto| *upto <= point).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngCore, SeedableRng, rngs::SmallRng};

    proptest! {
        #[test]
        fn a_weight_of_zero_is_never_chosen(weights in prop::collection::vec(0u32..5, 1..8), draw: u64) {
            match Weighted::new(weights.iter().copied()) {
                Some(w) => prop_assert!(weights[w.choose(draw)] > 0),
                None => prop_assert!(weights.iter().all(|w| *w == 0)),
            }
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let weighted = Weighted::new([90, 0, 10]).unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        let mut seen = [0u32; 3];
        for _ in 0..100_000 {
            seen[weighted.choose(rng.next_u64())] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!((9_500..10_500).contains(&seen[2]), "{seen:?}");
    }
}
