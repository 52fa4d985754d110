//! Figures: quantiles of latencies, the median of rounds with its spread.

use std::{fmt, time::Duration};

/// A quantile (0 to 1) of sorted values, by the nearest rank; zero of none.
pub fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The same figure from several rounds, in their order.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// Takes one more.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let n = sorted.len();
        let (low, high) = (sorted.get(n.checked_sub(1)? / 2)?, sorted.get(n / 2)?);
        Some((low + high) / 2.0)
    }

    /// Round by round, what becomes of this.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(change).collect())
    }

    /// Round by round, what this makes with the same round of another.
    pub fn with(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| combine(*a, *b)).collect())
    }

    /// Round by round, how many times the same round of another this is; rounds in which that was nothing are left out.
    pub fn over(&self, other: &Self) -> Self {
        let ratio = |(own, other): (&f64, &f64)| (*other > 0.0).then(|| own / other);
        Self(self.0.iter().zip(&other.0).filter_map(ratio).collect())
    }

    /// The greatest; negative infinity of none.
    pub fn highest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The least; infinity of none.
    pub fn lowest(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// `middle (lowest–highest)`; the middle alone of one round.
    pub fn around(&self, middle: f64) -> String {
        let (low, high) = (self.lowest(), self.highest());
        let digits = digits(high);
        match self.0.len() {
            1 => format!("{middle:.digits$}"),
            _ => format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})"),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Extend<f64> for Rounds {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, values: T) {
        self.0.extend(values);
    }
}

impl fmt::Display for Rounds {
    /// `median (lowest–highest)`, or a dash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.median().map_or("–".into(), |median| self.around(median)))
    }
}

/// How many digits after the point a value of this size deserves.
pub fn digits(value: f64) -> usize {
    match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let sorted: Vec<_> = (1..=1000).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_millis(500));
        assert_eq!(quantile(&sorted, 0.999), Duration::from_millis(999));
        assert_eq!(quantile(&sorted, 1.0), Duration::from_millis(1000));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn rounds_say_their_median_and_spread() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.to_string(), "–");
        for value in [3.0, 1.0, 2.0] {
            rounds.push(value);
        }
        assert_eq!(rounds.to_string(), "2.00 (1.00–3.00)");
        let mut others = Rounds::default();
        others.extend([1.0, 1.0, 1.5]);
        assert_eq!(rounds.with(&others, |a, b| a - b).to_string(), "0.50 (0.00–2.00)");
        rounds.push(10.0);
        assert_eq!(rounds.median(), Some(2.5));
        assert_eq!((rounds.lowest(), rounds.highest()), (1.0, 10.0));
    }

    #[test]
    fn a_ratio_is_of_the_same_rounds() {
        let (mut own, mut other) = (Rounds::default(), Rounds::default());
        // The machine is half as fast in the second round, and in the fourth the other has nothing.
        own.extend([10.0, 20.0, 11.0, 10.0]);
        other.extend([10.0, 20.0, 10.0, 0.0]);
        assert_eq!(own.over(&other).to_string(), "1.00 (1.00–1.10)");
    }
}
