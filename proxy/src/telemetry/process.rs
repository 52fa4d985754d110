//! `process_*`: what this process uses, from `/proc/self`, read when it is asked for.

use super::exposition::Exposition;
use std::fs;

/// The unit of times in `/proc/<pid>/stat` as user space sees them: 100 on every architecture of Linux that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Tells the standard process metrics. What cannot be read is left out.
pub fn tell(out: &mut Exposition) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(ticks) = cpu_ticks(&stat) {
        out.family("process_cpu_seconds_total", "counter", "Processor time, user and system.");
        out.sample([], ticks / TICKS_PER_SECOND);
    }
    if let Some(start) = start_time(&stat) {
        out.family("process_start_time_seconds", "gauge", "Start of the process, since the epoch.");
        out.sample([], start);
    }
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory.", kib(&status, "VmRSS:")),
        ("process_virtual_memory_bytes", "Virtual memory.", kib(&status, "VmSize:")),
        ("process_threads", "Threads.", field(&status, "Threads:")),
        ("process_open_fds", "Open file descriptors.", open_fds()),
        ("process_max_fds", "The most file descriptors that may be open.", max_fds()),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            out.family(name, "gauge", help).sample([], value);
        }
    }
}

/// The fields of `/proc/self/stat` from the third on: the second, the name, may contain blanks.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

/// Fields 14 and 15.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let mut fields = after_name(stat).skip(11);
    Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
}

/// Field 22, after the start of the machine.
fn start_time(stat: &str) -> Option<f64> {
    let ticks: f64 = after_name(stat).nth(19)?.parse().ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = machine.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|l| l.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

fn kib(status: &str, name: &str) -> Option<u64> {
    field(status, name).map(|n| n * 1_024)
}

fn open_fds() -> Option<u64> {
    // One of them is the directory itself.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64)
}

fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|l| l.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told() {
        let mut out = Exposition::default();
        tell(&mut out);
        let text = out.finish();
        for name in ["cpu_seconds_total", "start_time_seconds", "resident_memory_bytes", "open_fds", "max_fds"] {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name} in {text}");
        }
    }

    #[test]
    fn a_name_with_blanks_and_brackets_is_skipped() {
        let stat = "1 (a) b) S 0 0 0 0 0 0 0 0 0 0 7 8 0 0 0 0 0 0 500 0";
        assert_eq!(cpu_ticks(stat), Some(15.0));
    }
}
