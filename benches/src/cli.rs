//! What can be asked of `weir-bench`.

use crate::{contestant::Kind, flame::Flame, gate::Gate, order::Order, peers::relay::Relay, scenario::Scenario};
use clap::{Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// The side-by-side load bench: Weir's pair of sidecars, those of its peers, a bare TLS relay, and no proxy.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Without one, the bench runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How the bench runs.
    #[command(flatten)]
    pub args: Args,
}

/// What else there is.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One end of the floor; the bench starts it.
    #[command(hide = true)]
    Relay(Relay),
    /// Fails when a request costs more instructions or allocations than the baseline says.
    Gate(Gate),
    /// Draws where a pair spends its time.
    Flame(Flame),
    /// Writes in which order the functions of the sidecar lie in its program.
    Order(Order),
    /// Leads sidecars that count what they do through every load; `benches/profile` calls it.
    Profile,
}

/// How the bench runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often every contestant has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each measurement lasts, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Requests a second of the measurements at fixed rates; half of the slowest peer's most is measured besides.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 2000])]
    pub rates: Vec<u32>,
    /// One round of a second each: to see that it works, not for figures.
    #[arg(long)]
    pub quick: bool,
    /// Only these shapes of load.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Scenario>,
    /// Only these contestants.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub peers: Vec<Kind>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub parts: Vec<Part>,
    /// Another build of weir-proxy, to take part as `weir-other`.
    #[arg(long, value_name = "FILE")]
    pub other: Option<PathBuf>,
    /// A line for the report, such as how the binaries were built.
    #[arg(long, default_value = "")]
    pub note: String,
    /// Where the report goes besides standard output [default: docs/performance.md of the checkout; nowhere unless all
    /// is measured].
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The parts of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The shapes of load.
    Load,
    /// System calls per request.
    Calls,
    /// Handshakes.
    Handshakes,
    /// Idle connections.
    Idle,
    /// How soon a sidecar is ready.
    Start,
    /// Policies, sizes of the mesh and threads: Weir against itself.
    Variants,
    /// Instructions and allocations.
    Counts,
}

/// So many requests tell what one in a thousand takes.
const ENOUGH: u32 = 10_000;
/// The shortest and the longest time at a fixed rate, unless longer is asked for.
const LONG: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];

impl Args {
    /// How often.
    pub fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    /// How long each.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { self.seconds.into() })
    }

    /// How long each at a fixed rate, where the rare is looked at: [`ENOUGH`] requests, within [`LONG`].
    pub fn lasts_at(&self, rate: u32) -> Duration {
        let enough = Duration::from_secs(ENOUGH.into()) / rate.max(1);
        if self.quick { self.lasts() } else { self.lasts().max(enough.clamp(LONG[0], LONG[1])) }
    }

    /// Who takes part.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = self.peers.clone();
        if kinds.is_empty() {
            kinds =
                vec![Kind::Weir, Kind::Envoy, Kind::EnvoyHttp2, Kind::Haproxy, Kind::Nginx, Kind::Relay, Kind::Direct];
        }
        if self.other.is_some() && !kinds.contains(&Kind::WeirOther) {
            kinds.push(Kind::WeirOther);
        }
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Which shapes of load.
    pub fn scenarios(&self) -> Vec<Scenario> {
        if self.only.is_empty() { Scenario::USUAL.to_vec() } else { self.only.clone() }
    }

    /// Whether a part runs.
    pub fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// Whether everything is measured, so that the page may be replaced.
    pub fn is_whole(&self) -> bool {
        !self.quick && self.only.is_empty() && self.peers.is_empty() && self.parts.is_empty()
    }
}
