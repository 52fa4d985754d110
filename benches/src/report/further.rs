//! The tables that are no shape of load: memory, handshakes, variants, counts, system calls.

use super::{Report, table::Table};
use crate::{
    contestant::Kind,
    results::{Mode, What},
    variants,
};
use std::fmt;

impl Report {
    pub(super) fn calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.results.calls.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n## System calls per request, both proxies\n")?;
        let mut loads: Vec<_> = self.results.calls.keys().map(|(scenario, mode, _)| (*scenario, *mode)).collect();
        loads.dedup();
        for (scenario, mode) in loads {
            writeln!(f, "{}, {mode}:\n", scenario.title())?;
            let mut table = Table::new(["", "all", "by name"]);
            for kind in self.kinds() {
                let Some(calls) = self.results.calls.get(&(scenario, mode, kind)) else { continue };
                let all: f64 = calls.iter().map(|(_, n)| n).sum();
                let most = calls.iter().filter(|(_, n)| *n >= 0.01 && *n >= all / 100.0);
                let most: Vec<_> = most.map(|(name, n)| format!("{name} {n:.2}")).collect();
                table.row(kind, [format!("{all:.2}"), most.join(", ")]);
            }
            writeln!(f, "{table}")?;
        }
        Ok(())
    }

    pub(super) fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Memory of one proxy, and what it costs idle\n")?;
        let columns = [
            (What::IdleMemory, "idle, MiB"),
            (What::BusyMemory, "after 64 connections and the fixed rates, MiB"),
            (What::LastMemory, "after all load, MiB"),
            (What::IdleConnection, "an idle client connection, KiB"),
            (What::MemoryWithIdle, "with 10,000 of them, MiB"),
            (What::IdleCpu, "CPU with them, %"),
        ];
        self.figures(f, &columns)?;
        let weir = |what| self.results.figure(what, Kind::Weir);
        if let Some(size) = weir(What::Binary) {
            writeln!(f, "\nweir-proxy itself is {size} MiB.")?;
        }
        if let Some(start) = weir(What::Start) {
            writeln!(
                f,
                "\nFrom the start of its process, with nothing kept from before, until it is ready, with certificate and \
                 configuration from the control plane: {start} ms."
            )?;
        }
        Ok(())
    }

    pub(super) fn handshakes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.results.figures.keys().any(|(what, _)| *what == What::Handshakes) {
            return Ok(());
        }
        writeln!(f, "\n## Mutual-TLS handshakes a second of the application's proxy's CPU time\n\n{HANDSHAKES}\n")?;
        let columns = [
            (What::Handshakes, "full, X25519"),
            (What::HandshakesPostQuantum, "full, X25519MLKEM768"),
            (What::Resumptions, "resumed, X25519"),
        ];
        self.figures(f, &columns)
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>, columns: &[(What, &str)]) -> fmt::Result {
        let mut table = Table::new([""]);
        columns.iter().for_each(|(_, name)| table.column(name));
        for kind in self.kinds().filter(|kind| *kind != Kind::Direct) {
            let cell = |what| self.results.figure(what, kind).map_or("–".into(), ToString::to_string);
            table.row(kind, columns.iter().map(|(what, _)| cell(*what)));
        }
        write!(f, "{table}")
    }

    /// Weir against itself.
    pub(super) fn variants(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.results.variants.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n## Weir against itself: policies, size of the mesh, threads\n\n{VARIANTS}\n")?;
        let mut table = Table::new([""]);
        variants::SCENARIOS.iter().for_each(|s| table.column(&format!("CPU µs/request, {}", s.title())));
        variants::SCENARIOS.iter().for_each(|s| table.column(&format!("requests/s, {s:?}")));
        table.column("failed");
        for kind in variants::KINDS {
            let rows = variants::SCENARIOS.map(|s| self.results.variants.get(&(s, Mode::Closed, kind)));
            let mut cells: Vec<_> = rows.iter().map(|row| row.map_or("–".into(), |row| row.cpu.to_string())).collect();
            cells.extend(rows.iter().map(|row| row.map_or("–".into(), |row| row.per_second.to_string())));
            cells.push(rows.iter().flatten().map(|row| row.failed).sum::<u64>().to_string());
            table.row(kind, cells);
        }
        write!(f, "{table}")?;
        for ((scenario, _, kind), row) in &self.results.variants {
            if let Some(failure) = &row.first_failure {
                writeln!(f, "\nThe first failure of {kind}, {scenario:?}: {failure}")?;
            }
        }
        Ok(())
    }

    /// Instructions and allocations.
    pub(super) fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.results.counts.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n## Instructions and allocations per request of Weir's pair\n\n{COUNTS}\n")?;
        let mut table = Table::new(["", "instructions", "of those cryptography", "allocations"]);
        for (scenario, counts) in &self.results.counts {
            let all = counts.instructions + counts.cryptography;
            // A program without symbols tells nothing of its functions.
            let named = |count: f64, digits| if count > 0.0 { format!("{count:.digits$}") } else { "–".into() };
            let (crypto, allocations) = (named(counts.cryptography, 0), named(counts.allocations, 1));
            table.row(format!("{scenario:?}"), [format!("{all:.0}"), crypto, allocations]);
        }
        write!(f, "{table}")
    }
}

const HANDSHAKES: &str = "\
The bench is the caller, with the same certificate each time: Weir has verified it before and does not verify it again; a
caller that it does not know costs a third more (`benches/tried.md`). With a resumed handshake comes a request that is refused at
once, from everyone, since Envoy sends no tickets before it answers something.";

const VARIANTS: &str = "\
All policies: authorisation by an allowing and a denying policy, retries with a budget and a time limit per try, request,
idle and connect timeouts, connection limits, outlier detection, balancing by latency. No policies: no retries, no timeouts,
no outlier detection, round robin. Metrics and tracing headers are always on. Routes are prefixes of the same host. Further
endpoints are the same sidecar at other addresses, so that each has a connection pool of its own.";

const COUNTS: &str = "\
Both sidecars together, under valgrind's callgrind, one request after the other; cryptography and allocations are
told where the program has symbols. `benches/gate` compares such counts with `benches/baseline.json` in CI.";
