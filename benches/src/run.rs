//! The rounds: every contestant gets every scenario in turn, again and again.

use crate::{
    application::Application,
    contestant::{Contestant, Failure},
    envoy, load,
    report::{Report, Sample},
    scenario::Scenario,
    weir,
};
use clap::Parser;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The side-by-side load bench: Weir's pair of sidecars, Envoy's pair, and no proxy.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version)]
pub struct Args {
    /// How often every contestant has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each measurement lasts, in seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Requests a second of the measurements at a fixed rate.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// One round of two seconds each: to see that it works, not for figures.
    #[arg(long)]
    pub quick: bool,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Scenario>,
    /// A line for the report, such as how the binaries were built.
    #[arg(long, default_value = "")]
    pub note: String,
    /// Where the report goes besides standard output [default: docs/performance.md of the checkout; nowhere if quick].
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl Args {
    /// How often, and how long each.
    pub fn rounds_of(&self) -> (u32, Duration) {
        if self.quick { (1, Duration::from_secs(2)) } else { (self.rounds, Duration::from_secs(self.seconds.into())) }
    }
}

/// Starts everything, measures, prints and writes the report. Processes end with it.
pub fn run(args: &Args) -> Result<(), Failure> {
    let binaries = weir::Binaries::find()?;
    let envoy = weir_tests::peers::find("envoy");
    // One thread makes the load, so that it leaves the other cores to the proxies.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::new(args);
    let application = Application::start()?;
    runtime.block_on(async {
        let mut contestants = vec![weir::start(&binaries, application.address).await?];
        if let Some(envoy) = envoy {
            contestants.push(envoy::start(&envoy, application.address).await?);
        }
        contestants.push(Contestant::direct(application.address));
        contestants.iter().for_each(|contestant| report.idle(contestant));
        measure(args, &contestants, &mut report).await?;
        contestants.iter().for_each(|contestant| report.loaded(contestant));
        Ok::<_, Failure>(())
    })?;
    let text = report.to_string();
    println!("{text}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    if let Some(path) = args.output.clone().or((!args.quick).then_some(page)) {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

async fn measure(args: &Args, contestants: &[Contestant], report: &mut Report) -> Result<(), Failure> {
    let (rounds, lasts) = args.rounds_of();
    let scenarios = if args.only.is_empty() { &Scenario::ALL[..] } else { &args.only };
    for round in 1..=rounds {
        for &scenario in scenarios {
            for contestant in contestants {
                eprintln!("round {round} of {rounds}: {scenario:?}, {}", contestant.name);
                let sample = turn(scenario, contestant, args.rate, lasts).await?;
                report.add(scenario, contestant.name, sample);
            }
        }
    }
    Ok(())
}

async fn turn(scenario: Scenario, contestant: &Contestant, rate: u32, lasts: Duration) -> Result<Sample, Failure> {
    let target = scenario.target(contestant);
    // Pools fill, caches warm.
    load::closed(scenario, target, lasts / 8).await?;
    let before = contestant.cpu();
    let closed = load::closed(scenario, target, lasts).await?;
    let closed_cpu = contestant.cpu_since(before);
    let mut open = None;
    if scenario.at_fixed_rate() {
        let before = contestant.cpu();
        let outcome = load::open(scenario, target, rate, lasts).await?;
        open = Some((outcome, contestant.cpu_since(before)));
    }
    Ok(Sample { closed, closed_cpu, open })
}
