//! Where and when: what a figure is worth nothing without.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::{getpriority_process, setpriority_process};
use std::{fs, process::Command};

/// Enough for ten thousand connections through each proxy.
const FILES: u64 = 65_536;

/// The niceness that comes before all others.
const FIRST: i32 = -20;
/// That of this process' session among others.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// Raises the limit of open files, for this process and those that it starts; what cannot be had is not asked for.
pub fn raise_file_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < FILES && setrlimit(Resource::RLIMIT_NOFILE, FILES, hard.max(FILES)).is_err() {
        // Only root may ask for more than the hard limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Has the bench, and with it all that it starts, come before the machine's other work, as far as it may: a process that
/// runs for five milliseconds once a second is all that tails of latencies would show. Until the guard is dropped.
///
/// Niceness compares the processes of one session; where the kernel shares the processor among sessions first
/// (sched(7), autogroup), this session has it, too.
pub fn come_first() -> First {
    // Only root may.
    let _ = setpriority_process(None, FIRST);
    let before = session_niceness();
    let first = before.is_some_and(|_| fs::write(AUTOGROUP, FIRST.to_string()).is_ok());
    First { before: before.filter(|_| first) }
}

/// This session's share is as it was again when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct First {
    before: Option<i32>,
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = fs::write(AUTOGROUP, before.to_string());
        }
    }
}

/// `/autogroup-<n> nice <niceness>`; empty or not there where sessions are not compared.
fn session_niceness() -> Option<i32> {
    fs::read_to_string(AUTOGROUP).ok()?.rsplit(' ').next()?.trim().parse().ok()
}

/// What the processors did until now, by the kernel's count, in its ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Processors {
    all: u64,
    /// They were another machine's (`steal`, proc_stat(5)).
    stolen: u64,
}

impl Processors {
    /// Until now.
    pub fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// Of `cpu user nice system idle iowait irq softirq steal …`: what is behind that is counted in it.
    fn parse(stat: &str) -> Self {
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
        Self { all: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// How much of the time since `before` they were another machine's, in percent: pauses of the whole machine, which all
    /// tails of latencies show.
    pub fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 * 100.0 / all as f64
    }
}

/// Lines that say it.
pub fn describe() -> Vec<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let comes_first = getpriority_process(None).is_ok_and(|nice| nice == FIRST)
        && session_niceness().is_none_or(|nice| nice == FIRST);
    let priority = if comes_first {
        "before the machine's other work (nice -20, and so their session)"
    } else {
        "like the machine's other work"
    };
    vec![
        format!("Date: {}", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        format!("Machine: {cores} cores, {}, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim()),
        format!(
            "Load average before the first round, from other work on the machine: {}",
            load.split(' ').next().unwrap_or("")
        ),
        format!("Client, application and proxies run {priority}"),
        format!("Commit: {}", said("git", &["rev-parse", "--short=12", "HEAD"])),
    ]
}

fn said(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    said.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_else(|_| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_machines_had_is_a_share_of_all_time() {
        let before = Processors::parse("cpu  100 0 50 800 0 0 0 50 0 0\ncpu0 1 2 3\n");
        let after = Processors::parse("cpu  160 0 60 810 5 5 10 60 40 0\ncpu0 1 2 3\n");
        assert_eq!(after.stolen_since(before), 10.0 * 100.0 / 110.0);
        assert_eq!(Processors::parse("").stolen_since(before), 0.0);
        assert!(Processors::now().all > 0);
    }
}
