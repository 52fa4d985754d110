//! The aims of "the fastest sidecar there is", each with its figure, its bound, and whether it is met.

use super::table::Table;
use crate::{
    contestant::Kind,
    measure::Rounds,
    results::{Mode, QUANTILES, Results, What},
    scenario::Scenario,
};
use std::{
    collections::BTreeSet,
    fmt::{self, Display},
};

/// The second of the rates that the aims speak of.
const MODERATE: u32 = 2_000;
/// The first.
const LOW: u32 = 200;

/// A figure that may not be above, or below, a bound.
struct Aim {
    item: u8,
    what: String,
    figure: Option<Figure>,
    bound: Bound,
    /// The same figure of a relay that parses nothing: where it is near the bound or above, no proxy can do much.
    floor: Option<Figure>,
}

/// The middle, and the rounds that it lies between.
struct Figure {
    middle: f64,
    rounds: Rounds,
}

impl Figure {
    /// The median of rounds.
    fn of(rounds: Rounds) -> Option<Self> {
        Some(Self { middle: rounds.median()?, rounds })
    }
}

impl Display for Figure {
    /// `middle (lowest–highest)`; a dash for a middle below zero: what was slower without a proxy says nothing of one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.middle {
            below if below < 0.0 => f.write_str("–"),
            middle => f.write_str(&self.rounds.around(middle)),
        }
    }
}

impl Aim {
    fn new(item: u8, what: String, figure: Option<Figure>, bound: Bound) -> Self {
        Self { item, what, figure, bound, floor: None }
    }
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The table.
pub(super) struct Aims<'a>(pub(super) &'a Results);

impl Aims<'_> {
    fn all(&self) -> Vec<Aim> {
        let mut aims = Vec::new();
        self.cpu(&mut aims);
        self.latency(&mut aims);
        self.bulk(&mut aims);
        self.connections(&mut aims);
        self.small(&mut aims);
        self.variants(&mut aims);
        aims
    }

    /// 1: CPU per request.
    fn cpu(&self, aims: &mut Vec<Aim>) {
        let moderate = Mode::Rate(MODERATE);
        let over = [
            (Scenario::Http1, Mode::Closed, Kind::Haproxy, 1.0),
            (Scenario::Http1, Mode::Closed, Kind::Envoy, 0.33),
            (Scenario::Http1, moderate, Kind::Haproxy, 1.0),
            (Scenario::Http1, moderate, Kind::Envoy, 0.5),
            (Scenario::Grpc, Mode::Closed, Kind::Envoy, 0.33),
        ];
        for (scenario, mode, kind, most) in over {
            let what = format!("CPU per request over that of {kind}: {}, {mode}", scenario.title());
            let figure = self.ratio(scenario, mode, kind, |row| &row.cpu);
            aims.push(Aim::new(1, what, figure, Bound::AtMost(most)));
        }
        for (scenario, kind, least) in [
            (Scenario::Http1, Kind::Haproxy, 1.0),
            (Scenario::Http1, Kind::Envoy, 3.0),
            (Scenario::Grpc, Kind::Envoy, 3.0),
        ] {
            let what = format!("Requests a second over those of {kind}: {}", scenario.title());
            let figure = self.ratio(scenario, Mode::Closed, kind, |row| &row.per_second);
            aims.push(Aim::new(1, what, figure, Bound::AtLeast(least)));
        }
    }

    /// 2: what is added to the latency without a proxy.
    fn latency(&self, aims: &mut Vec<Aim>) {
        for scenario in [Scenario::Http1, Scenario::Grpc] {
            for mode in [Mode::Half, Mode::Rate(LOW)] {
                for (at, q) in QUANTILES.iter().enumerate() {
                    for (kind, most) in [(Kind::Envoy, 0.5), (Kind::Haproxy, 1.0)] {
                        let over = |own| {
                            let added = |kind| self.added(scenario, mode, kind, at);
                            let (own, other) = added(own).zip(added(kind))?;
                            let middle = own.median()? / other.median().filter(|other| *other > 0.0)?;
                            Some(Figure { middle, rounds: own.over(&other) })
                        };
                        let (figure, floor) = (over(Kind::Weir), over(Kind::Relay));
                        let q = q * 100.0;
                        let what = format!("Added p{q} over that of {kind}: {}, {mode}", scenario.title());
                        aims.push(Aim { floor, ..Aim::new(2, what, figure, Bound::AtMost(most)) });
                    }
                }
            }
        }
    }

    /// 3: bodies.
    fn bulk(&self, aims: &mut Vec<Aim>) {
        for scenario in [Scenario::Large, Scenario::LargeUp, Scenario::Huge, Scenario::HugeUp] {
            if self.0.row(scenario, Mode::Closed, Kind::Weir).is_none() {
                continue;
            }
            let speed = |kind| Some((self.0.row(scenario, Mode::Closed, kind)?.per_second.median()?, kind));
            let best = Kind::PEERS.into_iter().filter_map(speed).max_by(|a, b| a.0.total_cmp(&b.0));
            let figure = best.and_then(|(_, best)| self.ratio(scenario, Mode::Closed, best, |row| &row.per_second));
            let what = format!("Throughput over the best peer's: {}", scenario.title());
            aims.push(Aim::new(3, what, figure, Bound::AtLeast(1.0)));
            let what = format!("CPU per byte over the relay's: {}", scenario.title());
            let figure = self.ratio(scenario, Mode::Closed, Kind::Relay, |row| &row.cpu);
            aims.push(Aim::new(3, what, figure, Bound::AtMost(1.2)));
        }
    }

    /// 4: new connections.
    fn connections(&self, aims: &mut Vec<Aim>) {
        let figure = self.ratio(Scenario::Connect, Mode::Closed, Kind::Haproxy, |row| &row.cpu);
        let what = format!("CPU per request over that of {}: {}", Kind::Haproxy, Scenario::Connect.title());
        aims.push(Aim::new(4, what, figure, Bound::AtMost(1.0)));
        for (name, what, least) in
            [("Full handshakes", What::Handshakes, 1.3), ("Resumed handshakes", What::Resumptions, 1.6)]
        {
            let figure = self.0.figure(what, Kind::Weir).zip(self.0.figure(what, Kind::Envoy));
            let figure = figure.and_then(|(weir, envoy)| Figure::of(weir.over(envoy)));
            let what = format!("{name} a CPU second over those of {}", Kind::Envoy);
            aims.push(Aim::new(4, what, figure, Bound::AtLeast(least)));
        }
    }

    /// 5: size, memory, start.
    fn small(&self, aims: &mut Vec<Aim>) {
        let figures = [
            (What::Binary, "The program, MiB", 10.0),
            (What::IdleMemory, "Memory of an idle sidecar, MiB", 8.0),
            (What::BusyMemory, "Memory after 64 busy connections and the fixed rates, MiB", 15.0),
            (What::IdleConnection, "Memory of an idle client connection, KiB", 4.0),
            (What::MemoryWithIdle, "Memory with 10,000 idle connections, MiB", 48.0),
            (What::IdleCpu, "CPU of an idle sidecar, percent", 0.05),
            (What::Start, "From start to ready, ms", 50.0),
        ];
        for (what, name, most) in figures {
            let figure = self.0.figure(what, Kind::Weir).cloned().and_then(Figure::of);
            aims.push(Aim::new(5, name.into(), figure, Bound::AtMost(most)));
        }
        let figure = self.variant(Scenario::Http1, Kind::Weir, Kind::WeirTwo);
        let figure = figure.and_then(|one| Figure::of(one.map(|ratio| 2.0 * ratio)));
        let what = "Requests per CPU-bound second of two threads over those of one: HTTP/1.1".into();
        aims.push(Aim::new(5, what, figure, Bound::AtLeast(1.8)));
    }

    /// 6 and 7: policies, and the size of the mesh.
    fn variants(&self, aims: &mut Vec<Aim>) {
        let pairs = [
            (6, Kind::WeirAll, Kind::WeirNone, 1.15),
            (7, Kind::WeirServices, Kind::Weir, 1.05),
            (7, Kind::WeirRoutes, Kind::Weir, 1.05),
            (7, Kind::WeirEndpoints, Kind::WeirFew, 1.05),
        ];
        for (item, kind, base, most) in pairs {
            for scenario in crate::variants::SCENARIOS {
                if kind == Kind::WeirRoutes && scenario != Scenario::Http1 {
                    continue;
                }
                let what = format!("CPU per request of {kind} over {base}: {}", scenario.title());
                let figure = self.variant(scenario, kind, base).and_then(Figure::of);
                aims.push(Aim::new(item, what, figure, Bound::AtMost(most)));
            }
        }
    }

    /// A figure over that of another: the median of each round's ratio, since what both have of the machine changes from
    /// round to round by more than they differ.
    fn ratio(
        &self,
        scenario: Scenario,
        mode: Mode,
        kind: Kind,
        of: impl Fn(&crate::results::Row) -> &Rounds,
    ) -> Option<Figure> {
        let rounds = |kind| self.0.row(scenario, mode, kind).map(&of);
        Figure::of(rounds(Kind::Weir)?.over(rounds(kind)?))
    }

    /// CPU of one variant over that of another, round by round.
    fn variant(&self, scenario: Scenario, kind: Kind, base: Kind) -> Option<Rounds> {
        let cpu = |kind| self.0.variants.get(&(scenario, Mode::Closed, kind)).map(|row| &row.cpu);
        Some(cpu(kind)?.over(cpu(base)?))
    }

    /// What each round had more than the same round without a proxy.
    fn added(&self, scenario: Scenario, mode: Mode, kind: Kind, at: usize) -> Option<Rounds> {
        let direct = &self.0.row(scenario, mode, Kind::Direct)?.latency[at];
        Some(self.0.row(scenario, mode, kind)?.latency[at].with(direct, |with, without| with - without))
    }
}

impl Display for Aims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n## Aims\n")?;
        let aims = self.all();
        let mut table = Table::new(["", "what", "figure", "bound", "met", "the floor's figure"]);
        let mut unmeasured = BTreeSet::new();
        for aim in &aims {
            let Some(figure) = &aim.figure else {
                unmeasured.insert(aim.item);
                continue;
            };
            let (bound, met) = match aim.bound {
                Bound::AtMost(most) => (format!("≤ {most}"), figure.middle <= most),
                Bound::AtLeast(least) => (format!("≥ {least}"), figure.middle >= least),
            };
            let met = match met {
                _ if figure.middle < 0.0 => "–",
                true => "yes",
                false => "**no**",
            };
            let floor = aim.floor.as_ref().map_or("–".into(), ToString::to_string);
            table.row(aim.item, [aim.what.clone(), figure.to_string(), bound, met.into(), floor]);
        }
        write!(f, "{table}")?;
        writeln!(f, "\n{HOW}")?;
        writeln!(f, "\nThe floor's figure is that of a TLS relay that parses nothing, against the same contestant.")?;
        writeln!(f, "A dash: nothing was added that could be told from what the same load had without a proxy.")?;
        if !unmeasured.is_empty() {
            let items: Vec<_> = unmeasured.iter().map(ToString::to_string).collect();
            writeln!(f, "\nNot all was measured in this run: something is missing of {}.", items.join(", "))?;
        }
        Ok(())
    }
}

const HOW: &str = "\
A ratio is the median of each round's ratio, with the lowest and the highest in parentheses; that of an added latency is of the
medians of what each round added to the same round without a proxy.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_or_not_or_not_measured() {
        let mut results = Results::default();
        results.note(What::Binary, Kind::Weir, 9.0);
        results.note(What::IdleMemory, Kind::Weir, 11.0);
        let page = Aims(&results).to_string();
        assert!(page.contains("| 5 | The program, MiB | 9.00 | ≤ 10 | yes | – |"), "{page}");
        assert!(page.contains("| 5 | Memory of an idle sidecar, MiB | 11.0 | ≤ 8 | **no** | – |"), "{page}");
        assert!(page.contains("something is missing of 1, 2, 4, 5, 6, 7."), "{page}");
    }

    #[test]
    fn a_ratio_is_of_the_same_rounds_and_says_its_spread() {
        let mut results = Results::default();
        for (kind, cpu) in [(Kind::Weir, [30.0, 60.0, 44.0]), (Kind::Haproxy, [40.0, 60.0, 40.0])] {
            let row = results.rows.entry((Scenario::Connect, Mode::Closed, kind)).or_default();
            row.cpu.extend(cpu);
        }
        let page = Aims(&results).to_string();
        let line = page.lines().find(|line| line.contains("CPU per request over that of HAProxy")).unwrap();
        // Of the medians it would be 44 over 40.
        assert!(line.ends_with("| 1.00 (0.75–1.10) | ≤ 1 | yes | – |"), "{line}");
    }

    /// The line of p99.9 over Envoy's, whose latency is 1 ms.
    fn latency(direct: f64, weir: f64, relay: f64) -> String {
        let mut results = Results::default();
        for (kind, latency) in [(Kind::Direct, direct), (Kind::Weir, weir), (Kind::Envoy, 1.0), (Kind::Relay, relay)] {
            let row = results.rows.entry((Scenario::Http1, Mode::Rate(LOW), kind)).or_default();
            row.latency.iter_mut().for_each(|rounds| rounds.push(latency));
        }
        let page = Aims(&results).to_string();
        page.lines().find(|line| line.contains("Added p99.9 over that of Envoy")).unwrap().to_owned()
    }

    #[test]
    fn a_latency_stands_beside_what_the_floor_has() {
        let line = latency(0.2, 0.4, 0.3);
        assert!(line.ends_with("| 0.25 | ≤ 0.5 | yes | 0.12 |"), "{line}");
    }

    #[test]
    fn nothing_is_claimed_where_no_proxy_was_slower() {
        let line = latency(0.5, 0.4, 0.3);
        assert!(line.ends_with("| – | ≤ 0.5 | – | – |"), "{line}");
    }
}
