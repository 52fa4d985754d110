//! Where and when: what a figure is worth nothing without.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::{getpriority_process, setpriority_process};
use std::{fs, process::Command};

/// Enough for ten thousand connections through each proxy.
const FILES: u64 = 65_536;

/// The niceness that comes before all others.
const FIRST: i32 = -20;

/// Raises the limit of open files, for this process and those that it starts; what cannot be had is not asked for.
pub fn raise_file_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < FILES && setrlimit(Resource::RLIMIT_NOFILE, FILES, hard.max(FILES)).is_err() {
        // Only root may ask for more than the hard limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Has the bench, and with it all that it starts, come before the machine's other work (nice -20), as far as it may: a
/// process that runs for two milliseconds once a second is all that a p99.9 at low rates would show.
pub fn come_first() {
    // Only root may.
    let _ = setpriority_process(None, FIRST);
}

/// Lines that say it.
pub fn describe() -> Vec<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let comes_first = getpriority_process(None).is_ok_and(|nice| nice == FIRST);
    let priority =
        if comes_first { "before the machine's other work (nice -20)" } else { "like the machine's other work" };
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
