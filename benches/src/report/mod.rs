//! The report: one table for each shape of load, ratios, memory; nothing that was not measured in this run.

mod aims;
mod further;
mod table;

use crate::{
    cli::Args,
    contestant::Kind,
    machine::{self, Processors},
    results::{Mode, Results, Row},
    scenario::Scenario,
    variants,
};
use std::fmt;
use table::Table;

/// All that is said.
pub struct Report {
    head: Vec<String>,
    /// What the machine's processors had done when it was begun.
    began: Processors,
    /// `benches/tried.md`, without its own title.
    tried: String,
    /// What was measured.
    pub results: Results,
}

impl Report {
    /// An empty one, with date and machine.
    pub fn new(args: &Args) -> Self {
        let mut head = machine::describe();
        head.push(format!(
            "Rounds: {}, in each of which everyone is asked in slices that take turns: as fast as answers come for {} s in slices \
             of 0.1 s (bodies 0.5 s), at fixed rates until it is 10,000 requests, but for 5 to 20 s, in slices of 2 s; Weir \
             against itself in {} rounds of {} s; one data thread in each proxy",
            args.rounds(),
            2 * args.lasts().as_secs(),
            variants::rounds(args),
            args.lasts().as_secs(),
        ));
        if !args.note.is_empty() {
            head.push(args.note.clone());
        }
        let tried = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tried.md")).unwrap_or_default();
        let tried = tried.lines().filter(|line| !line.starts_with("# ")).collect::<Vec<_>>().join("\n");
        Self { head, began: Processors::now(), tried, results: Results::default() }
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.results.versions.iter().map(|(kind, _)| *kind)
    }

    fn closed(&self, f: &mut fmt::Formatter<'_>, scenario: Scenario) -> fmt::Result {
        let mut table = Table::new(["", "requests/s", "CPU µs/request", "in the kernel %", "context switches/request"]);
        let size = scenario.shape().up.max(scenario.shape().down) as f64;
        if scenario.is_bulk() {
            table.column("MiB/s");
            table.column("CPU µs/MiB");
        }
        table.column("failed");
        for kind in self.kinds() {
            let Some(row) = self.results.row(scenario, Mode::Closed, kind) else { continue };
            let mut cells = vec![row.per_second.to_string(), row.cpu.to_string(), whole(&row.kernel), switches(row)];
            if scenario.is_bulk() {
                let mib = size / 1_048_576.0;
                cells.push(row.per_second.map(|n| n * mib).to_string());
                cells.push(row.cpu.map(|n| n / mib).to_string());
            }
            cells.push(row.failed.to_string());
            table.row(kind, cells);
        }
        write!(f, "{table}")?;
        self.ratios(f, scenario, Mode::Closed)
    }

    fn open(&self, f: &mut fmt::Formatter<'_>, scenario: Scenario, mode: Mode) -> fmt::Result {
        let half = self.results.half.get(&scenario).filter(|_| mode == Mode::Half);
        let rate = half.map(|n| format!(" ({n} a second)")).unwrap_or_default();
        writeln!(f, "\nOpen loop, {mode}{rate}:\n")?;
        let mut table = Table::new([
            "",
            "CPU µs/request",
            "in the kernel %",
            "context switches/request",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "failed",
        ]);
        for kind in self.kinds() {
            let Some(row) = self.results.row(scenario, mode, kind) else { continue };
            let mut cells = vec![row.cpu.to_string(), whole(&row.kernel), switches(row)];
            cells.extend(row.latency.iter().map(ToString::to_string));
            cells.push(row.failed.to_string());
            table.row(kind, cells);
        }
        write!(f, "{table}")?;
        self.ratios(f, scenario, mode)
    }

    /// Weir's CPU over that of each other, as in the aims.
    fn ratios(&self, f: &mut fmt::Formatter<'_>, scenario: Scenario, mode: Mode) -> fmt::Result {
        let Some(weir) = self.results.row(scenario, mode, Kind::Weir) else { return Ok(()) };
        let others = self.kinds().filter(|kind| *kind != Kind::Weir);
        let said: Vec<_> = others
            .filter_map(|kind| {
                let other = self.results.row(scenario, mode, kind)?;
                let ratio = weir.cpu.over(&other.cpu);
                ratio.median().map(|_| format!("{ratio} × {kind}"))
            })
            .collect();
        if said.is_empty() { Ok(()) } else { writeln!(f, "\nWeir's CPU per request: {}.", said.join(", ")) }
    }

    fn failures(&self, f: &mut fmt::Formatter<'_>, scenario: Scenario) -> fmt::Result {
        for ((_, mode, kind), row) in self.results.rows.iter().filter(|((s, _, _), _)| *s == scenario) {
            if let Some(failure) = &row.first_failure {
                writeln!(f, "\nThe first failure of {kind}, {mode}: {failure}")?;
            }
        }
        Ok(())
    }
}

fn whole(rounds: &crate::measure::Rounds) -> String {
    rounds.median().map_or("–".into(), |percent| format!("{percent:.0}"))
}

fn switches(row: &Row) -> String {
    row.voluntary.with(&row.involuntary, |a, b| a + b).to_string()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Performance\n")?;
        writeln!(
            f,
            "Written by `cargo run --release -p weir-benches --bin weir-bench`; every figure but those of \"What was tried\" is\nfrom this one run.\n"
        )?;
        for line in self.head.iter().chain(&self.results.notes) {
            writeln!(f, "- {line}")?;
        }
        let stolen = Processors::now().stolen_since(self.began);
        writeln!(f, "- Of the processors' time, other machines on the same hardware had {stolen:.1} %")?;
        for (kind, version) in self.results.versions.iter().filter(|(_, version)| !version.is_empty()) {
            writeln!(f, "- {kind}: {version}")?;
        }
        writeln!(f, "\n{HOW}")?;
        let mut loads: Vec<_> = self.results.rows.keys().map(|(scenario, mode, _)| (*scenario, *mode)).collect();
        loads.dedup();
        for (scenario, mode) in loads {
            if mode == Mode::Closed {
                writeln!(f, "\n## {}\n", scenario.title())?;
                self.closed(f, scenario)?;
                self.failures(f, scenario)?;
            } else {
                self.open(f, scenario, mode)?;
            }
        }
        self.calls(f)?;
        self.counts(f)?;
        self.handshakes(f)?;
        self.memory(f)?;
        self.variants(f)?;
        if !self.tried.is_empty() {
            writeln!(f, "\n## What was tried\n\n{}", self.tried.trim())?;
        }
        write!(f, "{}", aims::Aims(&self.results))
    }
}

const HOW: &str = "\
Client → sidecar → mutual TLS 1.3 → sidecar → application, all on loopback of one machine, client and application in the
bench's own process. Figures are medians of the rounds with the lowest and the highest in parentheses. CPU is the time
that both proxies together were on a processor (`/proc/<pid>/task/*/schedstat`) over right answers, without client,
application and control plane; its share in the kernel is by the kernel's ticks. Latencies are from when a request was due
to its last byte, so that what waits behind a slow answer counts too. Envoy is configured as Istio configures a sidecar,
access log off, without the filters that only Istio's build has; a second pair of it speaks HTTP/2 between the sidecars.
HAProxy and nginx are Debian's, with kept connections. The floor is two processes that copy bytes through mutual TLS and
parse nothing. Weir runs with its defaults. All have one worker (`benches/src/peers`).";
