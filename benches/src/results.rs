//! All that was measured: figures by what was measured, of whom, over the rounds.

use crate::{
    callgrind::Counts,
    contestant::{Failure, Kind},
    load::Outcome,
    measure::Rounds,
    scenario::Scenario,
    usage::Usage,
};
use std::{collections::BTreeMap, fmt};

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// As fast as answers come.
    Closed,
    /// So many a second.
    Rate(u32),
    /// Half as many a second as the slowest peer can.
    Half,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("as fast as answers come"),
            Self::Rate(rate) => write!(f, "{rate} requests a second"),
            Self::Half => f.write_str("half of the slowest peer's most"),
        }
    }
}

/// The quantiles of latencies.
pub const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// What one contestant did in one shape of load, over the rounds; times in microseconds, latencies in milliseconds.
#[derive(Debug, Default)]
pub struct Row {
    /// Right answers a second.
    pub per_second: Rounds,
    /// CPU of both proxies per right answer.
    pub cpu: Rounds,
    /// Of that in the kernel, percent.
    pub kernel: Rounds,
    /// Context switches per right answer, because a thread waited.
    pub voluntary: Rounds,
    /// And because another wanted the processor.
    pub involuntary: Rounds,
    /// At the quantiles; from when a request was due.
    pub latency: [Rounds; 3],
    /// Requests without a right answer.
    pub failed: u64,
    /// What the first of them was.
    pub first_failure: Option<String>,
}

impl Row {
    /// Takes a round.
    pub fn add(&mut self, outcome: &Outcome, used: Option<Usage>) {
        let done = outcome.done.max(1) as f64;
        self.per_second.push(outcome.per_second());
        if let Some(used) = used {
            self.cpu.push(used.cpu.as_secs_f64() * 1e6 / done);
            self.kernel.extend(used.kernel_share().map(|share| share * 100.0));
            self.voluntary.push(used.voluntary as f64 / done);
            self.involuntary.push(used.involuntary as f64 / done);
        }
        if !outcome.latencies.is_empty() {
            for (rounds, q) in self.latency.iter_mut().zip(QUANTILES) {
                rounds.push(outcome.latency(q).as_secs_f64() * 1000.0);
            }
        }
        self.failed += outcome.failed;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&outcome.first_failure);
        }
    }
}

/// Figures that are no shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Resident memory of each proxy before any load (the mean of both), MiB.
    IdleMemory,
    /// The same, after 64 busy connections and the fixed rates, before anything larger.
    BusyMemory,
    /// The same, after everything.
    LastMemory,
    /// Full mutual-TLS handshakes with the application's proxy, a second of its CPU time.
    Handshakes,
    /// The same with the post-quantum group, where it is spoken.
    HandshakesPostQuantum,
    /// The same, resumed.
    Resumptions,
    /// What an idle client connection takes in the caller's proxy, KiB.
    IdleConnection,
    /// Resident memory of the caller's proxy with all idle connections, MiB.
    MemoryWithIdle,
    /// CPU of one idle proxy, percent of a processor.
    IdleCpu,
    /// From the start of the process until it is ready, milliseconds.
    Start,
    /// The size of the stripped program, MiB.
    Binary,
}

/// By shape of load, how requests come, and who was asked.
pub type Rows = BTreeMap<(Scenario, Mode, Kind), Row>;

/// System calls per request, by name, the most frequent first.
pub type Calls = Vec<(String, f64)>;

/// All of it.
#[derive(Debug, Default)]
pub struct Results {
    /// By shape of load.
    pub rows: Rows,
    /// The rest.
    pub figures: BTreeMap<(What, Kind), Rounds>,
    /// Variants of Weir against each other, in rounds of their own.
    pub variants: Rows,
    /// Instructions and allocations per request of Weir's pair.
    pub counts: BTreeMap<Scenario, Counts>,
    /// System calls.
    pub calls: BTreeMap<(Scenario, Mode, Kind), Calls>,
    /// Who took part, and what they said of their version.
    pub versions: Vec<(Kind, String)>,
    /// What went wrong in the bench itself.
    pub notes: Vec<String>,
    /// The rate that [`Mode::Half`] was, by shape of load.
    pub half: BTreeMap<Scenario, u32>,
}

impl Results {
    /// A row, if there is one.
    pub fn row(&self, scenario: Scenario, mode: Mode, kind: Kind) -> Option<&Row> {
        self.rows.get(&(scenario, mode, kind))
    }

    /// Takes a figure.
    pub fn note(&mut self, what: What, kind: Kind, value: f64) {
        self.figures.entry((what, kind)).or_default().push(value);
    }

    /// Notes that a part could not be measured, if so.
    pub fn missing(&mut self, part: &str, ended: Result<(), Failure>) {
        if let Err(error) = ended {
            eprintln!("{part}: {error}");
            self.notes.push(format!("Not measured to the end: {part}: {error}"));
        }
    }

    /// A figure.
    pub fn figure(&self, what: What, kind: Kind) -> Option<&Rounds> {
        self.figures.get(&(what, kind))
    }

    /// Half of what the slowest peer did at most in this shape of load; without peers, of the slowest with a proxy.
    pub fn half_of_slowest(&self, scenario: Scenario) -> Option<u32> {
        let most = |kinds: &dyn Fn(Kind) -> bool| {
            let rows = self.rows.iter().filter(|((s, m, k), _)| *s == scenario && *m == Mode::Closed && kinds(*k));
            rows.map(|(_, row)| row.per_second.highest()).min_by(f64::total_cmp)
        };
        let slowest = most(&|kind| Kind::PEERS.contains(&kind)).or_else(|| most(&|kind| kind != Kind::Direct))?;
        Some((slowest / 2.0).max(1.0) as u32)
    }
}
