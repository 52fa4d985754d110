//! What processes have used, as the kernel counts it: CPU time, its split, context switches.

use std::{
    fs,
    ops::{Add, Sub},
    time::Duration,
};

/// What `/proc/<pid>/stat` counts in: the kernel's USER_HZ, 100 on every Linux that we run on.
const TICKS_PER_SECOND: u64 = 100;

/// So far, of all threads that live; between two of them, of the time between.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Usage {
    /// On a processor, to the nanosecond.
    pub cpu: Duration,
    /// Of that in user mode and in the kernel, as the kernel's ticks saw it: good for the share, not for the sum.
    pub user: Duration,
    /// See `user`.
    pub kernel: Duration,
    /// Context switches because a thread waited.
    pub voluntary: u64,
    /// Context switches because another thread wanted the processor.
    pub involuntary: u64,
}

impl Usage {
    /// Of a process; zero when there is none.
    pub fn of(process: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let (user, kernel) = parse_stat(&stat).unwrap_or_default();
        let mut usage = Self { user, kernel, ..Self::default() };
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return usage };
        for thread in threads.flatten() {
            let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            // proc(5), schedstat: time on the processor in nanoseconds, time waiting for it, times on it.
            let spent = read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            usage.cpu += Duration::from_nanos(spent);
            let status = read("status");
            let count = |name| status.lines().find_map(|l| l.strip_prefix(name)).and_then(|n| n.trim().parse().ok());
            usage.voluntary += count("voluntary_ctxt_switches:").unwrap_or(0);
            usage.involuntary += count("nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        if usage.cpu.is_zero() {
            // A kernel that does not account for scheduling.
            usage.cpu = usage.user + usage.kernel;
        }
        usage
    }

    /// The share of the time that was spent in the kernel, 0 to 1.
    pub fn kernel_share(&self) -> Option<f64> {
        let all = (self.user + self.kernel).as_secs_f64();
        (all > 0.0).then(|| self.kernel.as_secs_f64() / all)
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            user: self.user + other.user,
            kernel: self.kernel + other.kernel,
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    /// Never below zero: a thread that ended takes its count with it.
    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            user: self.user.saturating_sub(before.user),
            kernel: self.kernel.saturating_sub(before.kernel),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
        }
    }
}

/// proc(5): the second field is a name in parentheses that may hold anything; utime and stime are fields 14 and 15.
fn parse_stat(stat: &str) -> Option<(Duration, Duration)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || Some(Duration::from_millis(fields.next()?.parse::<u64>().ok()? * 1000 / TICKS_PER_SECOND));
    Some((ticks()?, ticks()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1 1 1";
        assert_eq!(parse_stat(stat), Some((Duration::from_millis(1500), Duration::from_millis(500))));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let before = Usage::of(std::process::id());
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {}
        let used = Usage::of(std::process::id()) - before;
        assert!(used.cpu >= Duration::from_millis(5) && used.cpu < Duration::from_secs(60), "{used:?}");
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }
}
