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
