//! The wait before a further try: full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that
//! callers that failed together do not come back together.

use super::below;
use std::time::Duration;
use weir_config::model::Backoff;

/// The wait before retry number `retry` (0 is the first), uniform in `0..=min(max, base * 2^retry)`.
pub fn wait(backoff: &Backoff, retry: u32, draw: u64) -> Duration {
    let ceiling = ceiling(backoff, retry).as_nanos().min(u128::from(u64::MAX - 1)) as u64;
    Duration::from_nanos(below(draw, ceiling + 1))
}

/// The longest wait before retry number `retry`.
pub fn ceiling(backoff: &Backoff, retry: u32) -> Duration {
    let factor = 1u32.checked_shl(retry).filter(|f| *f != 0).unwrap_or(u32::MAX);
    backoff.base.checked_mul(factor).map_or(backoff.max, |d| d.min(backoff.max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_largest() {
        let b = Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) };
        let ms: Vec<_> = (0..6).map(|n| ceiling(&b, n).as_millis()).collect();
        assert_eq!(ms, [25, 50, 100, 200, 250, 250]);
        assert_eq!(ceiling(&b, 1_000), b.max);
    }

    proptest! {
        #[test]
        fn a_wait_never_exceeds_its_ceiling(retry in 0u32..100, draw: u64, base in 1u64..10_000, more in 0u64..100_000) {
            let b = Backoff { base: Duration::from_millis(base), max: Duration::from_millis(base + more) };
            prop_assert!(wait(&b, retry, draw) <= ceiling(&b, retry));
            prop_assert_eq!(wait(&b, retry, 0), Duration::ZERO);
            prop_assert!(wait(&b, retry, u64::MAX) > ceiling(&b, retry).mul_f64(0.99));
        }
    }
}
