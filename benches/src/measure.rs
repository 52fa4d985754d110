//! Figures: CPU time of a process, quantiles of latencies, the median of rounds with its spread.

use std::{fmt, time::Duration};

/// What `/proc/<pid>/stat` counts in: the kernel's USER_HZ, 100 on every Linux that we run on.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time that all threads of a process have used; zero when there is no such process.
pub fn cpu(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    parse_cpu(&stat).unwrap_or_default()
}

/// proc(5): the second field is a name in parentheses that may hold anything; utime and stime are fields 14 and 15.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A quantile (0 to 1) of sorted values, by the nearest rank; zero of none.
pub fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The same figure from several rounds.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// Takes one more.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let n = self.0.len();
        let (low, high) = (self.0.get(n.checked_sub(1)? / 2)?, self.0.get(n / 2)?);
        Some((low + high) / 2.0)
    }
}

impl Extend<f64> for Rounds {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, values: T) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

impl fmt::Display for Rounds {
    /// `median (lowest–highest)`, or a dash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(median), Some(low), Some(high)) = (self.median(), self.0.first(), self.0.last()) else {
            return f.write_str("–");
        };
        let digits = if *high >= 1000.0 { 0 } else { 2 };
        write!(f, "{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1 1 1";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu("7 (a) S 1"), None);
        assert!(cpu(std::process::id()) < Duration::from_secs(600));
    }

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
        rounds.push(10.0);
        assert_eq!(rounds.median(), Some(2.5));
    }
}
