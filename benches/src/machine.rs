//! Where and when: what a figure is worth nothing without.

use std::{fs, process::Command};

/// Lines that say it.
pub fn describe() -> Vec<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        format!("Date: {}", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        format!("Machine: {cores} cores, {}, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim()),
        format!(
            "Load average before the first round, from other work on the machine: {}",
            load.split(' ').next().unwrap_or("")
        ),
        format!("Commit: {}", said("git", &["rev-parse", "--short=12", "HEAD"])),
    ]
}

fn said(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    said.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_else(|_| "unknown".into())
}
