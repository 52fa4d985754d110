//! How much of the machine other programs took: a promise broken on a machine that is busy with something else says
//! nothing about the mesh.

use std::fs;

/// Processor time so far, in the kernel's ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ticks {
    all: u64,
    idle: u64,
    ours: u64,
}

impl Ticks {
    /// Now; zeros where there is no `/proc`.
    pub(super) fn now() -> Self {
        let (all, idle) = machine(&fs::read_to_string("/proc/stat").unwrap_or_default());
        Self { all, idle, ours: ours() }
    }

    /// The share (0 to 1) of the machine that other programs took since `before`.
    pub(super) fn others_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let busy = all.saturating_sub(self.idle.saturating_sub(before.idle));
        let others = busy.saturating_sub(self.ours.saturating_sub(before.ours));
        if all == 0 { 0.0 } else { others as f64 / all as f64 }
    }
}

/// All ticks, and those in which nothing ran (idle, and waiting for a disk), of `/proc/stat`.
fn machine(stat: &str) -> (u64, u64) {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu ")).unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guest times are within user and nice.
    let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|t| t.parse().ok()).collect();
    (ticks.iter().sum(), ticks.iter().skip(3).take(2).sum())
}

/// Ticks of this process, of its children, and of those children that have ended.
fn ours() -> u64 {
    let me = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let numbers = processes.flatten().filter_map(|e| e.file_name().to_str().and_then(|n| n.parse::<u32>().ok()));
    let of = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (parent, own, ended) = process(&stat)?;
        match (pid == me, parent == me) {
            (true, _) => Some(own + ended),
            (false, true) => Some(own),
            (false, false) => None,
        }
    };
    numbers.filter_map(of).sum()
}

/// Parent, own ticks, and ticks of ended children, of `/proc/<pid>/stat`.
fn process(stat: &str) -> Option<(u32, u64, u64)> {
    // `pid (name) state parent …`: a name may have spaces and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok());
    Some((fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?, ticks(13)? + ticks(14)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(machine("cpu  1 2 3 40 5 6 7 8 9 10\ncpu0 1 1 1 1\n"), (72, 45));
        let stat = "7 (a (b) c) S 3 7 7 0 -1 0 1 0 0 0 10 5 100 50 20 0 1 0 99";
        assert_eq!(process(stat), Some((3, 15, 150)));
        assert_eq!(process(""), None);
    }

    #[test]
    fn what_others_took_is_what_is_left() {
        let before = Ticks { all: 1000, idle: 500, ours: 100 };
        let after = Ticks { all: 1200, idle: 550, ours: 200 };
        assert!((after.others_since(before) - 0.25).abs() < 1e-9);
        assert!(before.others_since(before).abs() < 1e-9);
    }
}
