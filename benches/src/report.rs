//! The report: one table for each scenario, ratios, memory; nothing that was not measured in this run.

use crate::{contestant::Contestant, load::Outcome, machine, measure::Rounds, run::Args, scenario::Scenario};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

/// One turn of one contestant in one scenario.
#[derive(Debug)]
pub struct Sample {
    /// As fast as answers came.
    pub closed: Outcome,
    /// What the proxies used meanwhile, if there are any.
    pub closed_cpu: Option<Duration>,
    /// At the fixed rate, and what the proxies used meanwhile.
    pub open: Option<(Outcome, Option<Duration>)>,
}

/// All that was measured.
pub struct Report {
    head: Vec<String>,
    rate: u32,
    versions: Vec<String>,
    memory: BTreeMap<(&'static str, &'static str), [u64; 2]>,
    rows: BTreeMap<Scenario, Vec<(&'static str, Row)>>,
}

/// What one contestant did in one scenario, over the rounds.
#[derive(Debug, Default)]
struct Row {
    per_second: Rounds,
    cpu: Rounds,
    rate_cpu: Rounds,
    latency: [Rounds; 3],
    failed: u64,
    first_failure: Option<String>,
}

const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

impl Report {
    /// An empty one, with date and machine.
    pub fn new(args: &Args) -> Self {
        let (rounds, lasts) = args.rounds_of();
        let mut head = machine::describe();
        head.push(format!(
            "Rounds: {rounds} interleaved, {} s for each measurement; one data thread in each proxy",
            lasts.as_secs()
        ));
        if !args.note.is_empty() {
            head.push(args.note.clone());
        }
        let (versions, memory, rows) = Default::default();
        Self { head, rate: args.rate, versions, memory, rows }
    }

    /// Notes a contestant and its memory before any load.
    pub fn idle(&mut self, contestant: &Contestant) {
        if !contestant.version.is_empty() {
            self.versions.push(format!("{}: {}", contestant.name, contestant.version));
        }
        for (role, kib) in contestant.rss() {
            self.memory.insert((contestant.name, role), [kib, 0]);
        }
    }

    /// Notes its memory after all load.
    pub fn loaded(&mut self, contestant: &Contestant) {
        for (role, kib) in contestant.rss() {
            self.memory.entry((contestant.name, role)).or_default()[1] = kib;
        }
    }

    /// Notes a turn.
    pub fn add(&mut self, scenario: Scenario, name: &'static str, sample: Sample) {
        let rows = self.rows.entry(scenario).or_default();
        let at = rows.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
            rows.push((name, Row::default()));
            rows.len() - 1
        });
        rows[at].1.add(sample);
    }

    fn scenario(&self, out: &mut impl Write, scenario: Scenario, rows: &[(&'static str, Row)]) -> fmt::Result {
        writeln!(out, "\n## {}\n", scenario.title())?;
        let rate = self.rate;
        write!(out, "| | requests/s | CPU µs/request |")?;
        if scenario.at_fixed_rate() {
            write!(out, " CPU µs/request at {rate}/s | p50 ms | p99 ms | p99.9 ms |")?;
        }
        writeln!(out, " failed |")?;
        writeln!(out, "|---|---|---|{}---|", if scenario.at_fixed_rate() { "---|---|---|---|" } else { "" })?;
        for (name, row) in rows {
            write!(out, "| {name} | {} | {} |", row.per_second, row.cpu)?;
            if scenario.at_fixed_rate() {
                let [p50, p99, p999] = &row.latency;
                write!(out, " {} | {p50} | {p99} | {p999} |", row.rate_cpu)?;
            }
            writeln!(out, " {} |", row.failed)?;
        }
        ratios(out, rows)?;
        for (name, row) in rows {
            if let Some(failure) = &row.first_failure {
                writeln!(out, "\nThe first failure of {name}: {failure}")?;
            }
        }
        Ok(())
    }

    fn memory(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "\n## Resident memory of each proxy, MiB\n")?;
        writeln!(out, "| | before load | after all load |\n|---|---|---|")?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        for ((name, role), [idle, loaded]) in &self.memory {
            writeln!(out, "| {name}, {role} | {:.1} | {:.1} |", mib(*idle), mib(*loaded))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Performance\n")?;
        writeln!(
            f,
            "Written by `cargo run --release -p weir-benches --bin weir-bench`; every figure is from this one run.\n"
        )?;
        for line in self.head.iter().chain(&self.versions) {
            writeln!(f, "- {line}")?;
        }
        writeln!(f, "\n{HOW}")?;
        for (scenario, rows) in &self.rows {
            self.scenario(f, *scenario, rows)?;
        }
        self.memory(f)
    }
}

const HOW: &str = "\
Client → sidecar → mutual TLS 1.3 → sidecar → application, all on loopback of one machine, client and application in the
bench's own process. Figures are medians of the rounds with the lowest and the highest in parentheses. CPU is user and
system time of both sidecars together over right answers (`/proc/<pid>/stat`), without client, application and control
plane. Latencies are at the fixed rate, from when a request was due to its last byte. Envoy is configured as Istio
configures a sidecar, access log off, without the filters that only Istio's build has (`benches/src/envoy_config.rs`);
Weir runs with its defaults. Both have one worker.";

impl Row {
    fn add(&mut self, sample: Sample) {
        let Sample { closed, closed_cpu, open } = sample;
        self.per_second.push(closed.done as f64 / closed.took.as_secs_f64().max(f64::EPSILON));
        self.cpu.extend(closed_cpu.map(|cpu| per_request(cpu, closed.done)));
        self.note_failures(&closed);
        let Some((open, open_cpu)) = open else { return };
        self.rate_cpu.extend(open_cpu.map(|cpu| per_request(cpu, open.done)));
        for (rounds, q) in self.latency.iter_mut().zip(QUANTILES) {
            rounds.push(open.latency(q).as_secs_f64() * 1000.0);
        }
        self.note_failures(&open);
    }

    fn note_failures(&mut self, outcome: &Outcome) {
        self.failed += outcome.failed;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&outcome.first_failure);
        }
    }
}

fn per_request(cpu: Duration, done: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / done.max(1) as f64
}

fn ratios(out: &mut impl Write, rows: &[(&'static str, Row)]) -> fmt::Result {
    let row = |name| rows.iter().find(|(n, _)| *n == name).map(|(_, row)| row);
    let (Some(weir), Some(envoy)) = (row("Weir"), row("Envoy")) else { return Ok(()) };
    let ratio = |a: &Rounds, b: &Rounds| Some(a.median()? / b.median().filter(|b| *b > 0.0)?);
    let pairs = [
        ("requests/s", ratio(&weir.per_second, &envoy.per_second)),
        ("CPU", ratio(&weir.cpu, &envoy.cpu)),
        ("CPU at the fixed rate", ratio(&weir.rate_cpu, &envoy.rate_cpu)),
        ("p99", ratio(&weir.latency[1], &envoy.latency[1])),
    ];
    let said: Vec<_> = pairs.iter().filter_map(|(what, r)| r.map(|r| format!("{what} {r:.2}"))).collect();
    writeln!(out, "\nWeir over Envoy, by the medians: {}.", said.join(", "))
}
