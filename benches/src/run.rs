//! The rounds: every contestant gets every scenario in turn, again and again.

use crate::{
    application::Application,
    callgrind, calls,
    cli::{Args, Part},
    contestant::{Contestant, Failure, Kind},
    handshakes, idle,
    load::Clients,
    machine,
    peers::weir,
    report::Report,
    results::{Mode, Results, What},
    scenario::Scenario,
    variants,
};
use std::{net::SocketAddr, path::Path, time::Duration};

/// At low rates the rare is rarer: as many seconds as give this many requests, within reason.
const ENOUGH: u32 = 1000;

/// Starts everything, measures, prints and writes the report. Processes end with it.
pub fn run(args: &Args) -> Result<(), Failure> {
    machine::raise_file_limit();
    let binaries = weir::Binaries::find()?;
    // One thread makes the load, so that it leaves the other cores to the proxies.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::new(args);
    let application = Application::start()?;
    let mut results = Results::default();
    runtime.block_on(async {
        let mut contestants = Vec::new();
        for kind in args.kinds() {
            let started = Contestant::start(kind, &binaries, args.other.as_ref(), application.address).await?;
            contestants.extend(started);
        }
        for contestant in &contestants {
            results.versions.push((contestant.kind, contestant.version.clone()));
            memory(contestant, What::IdleMemory, &mut results);
        }
        if args.has(Part::Load) {
            load(args, &contestants, &mut results).await?;
        }
        if args.has(Part::Calls) {
            calls::measure(args, &contestants, &mut results).await?;
        }
        contestants.iter().for_each(|contestant| memory(contestant, What::LastMemory, &mut results));
        if args.has(Part::Handshakes) {
            handshakes::measure(args, &contestants, &mut results).await?;
        }
        drop(contestants);
        alone(args, &binaries, application.address, &mut results).await
    })?;
    report.results = results;
    let text = report.to_string();
    println!("{text}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    if let Some(path) = args.output.clone().or(args.is_whole().then_some(page)) {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// What needs fresh pairs, the others gone.
async fn alone(
    args: &Args,
    binaries: &weir::Binaries,
    application: SocketAddr,
    results: &mut Results,
) -> Result<(), Failure> {
    let size = std::fs::metadata(binaries.proxy())?.len() as f64;
    results.note(What::Binary, Kind::Weir, size / 1_048_576.0);
    if args.has(Part::Idle) {
        idle::measure(args, binaries, application, results).await?;
    }
    if args.has(Part::Start) {
        idle::start(args, binaries, results).await?;
    }
    if args.has(Part::Variants) {
        variants::measure(args, binaries, application, results).await?;
    }
    if args.has(Part::Counts)
        && let Some(counts) = callgrind::count(binaries).await?
    {
        results.counts = counts;
    }
    Ok(())
}

async fn load(args: &Args, contestants: &[Contestant], results: &mut Results) -> Result<(), Failure> {
    let rounds = args.rounds();
    for round in 1..=rounds {
        for scenario in args.scenarios() {
            eprintln!("round {round} of {rounds}: {scenario:?}");
            for contestant in contestants {
                turn(scenario, contestant, Mode::Closed, args.lasts(), results).await?;
            }
            if !scenario.at_fixed_rates() {
                continue;
            }
            if let Some(half) = results.half_of_slowest(scenario) {
                results.half.entry(scenario).or_insert(half);
            }
            for mode in args.rates.iter().copied().map(Mode::Rate).chain([Mode::Half]) {
                for contestant in contestants {
                    turn(scenario, contestant, mode, args.lasts(), results).await?;
                }
            }
            if scenario == Scenario::Http1 && round == 1 {
                contestants.iter().for_each(|contestant| memory(contestant, What::BusyMemory, results));
            }
        }
    }
    Ok(())
}

/// One contestant's turn in one shape of load.
pub(crate) async fn turn(
    scenario: Scenario,
    contestant: &Contestant,
    mode: Mode,
    lasts: Duration,
    results: &mut Results,
) -> Result<(), Failure> {
    let mut clients = Clients::connect(scenario, scenario.target(contestant)).await?;
    // Pools fill, caches warm.
    clients.closed((lasts / 8).max(Duration::from_millis(100))).await?;
    let rate = match mode {
        Mode::Closed => None,
        Mode::Rate(rate) => Some(rate),
        Mode::Half => results.half.get(&scenario).copied(),
    };
    let before = contestant.usage();
    let outcome = match rate {
        None => clients.closed(lasts).await?,
        Some(rate) => clients.open(rate, lasts.max(lasts * ENOUGH / rate / 2).min(lasts * 3)).await?,
    };
    let used = contestant.usage().zip(before).map(|(after, before)| after - before);
    results.rows.entry((scenario, mode, contestant.kind)).or_default().add(&outcome, used);
    Ok(())
}

fn memory(contestant: &Contestant, what: What, results: &mut Results) {
    let rss = contestant.rss();
    if contestant.kind != Kind::Direct && !rss.is_empty() {
        let mean = rss.iter().map(|(_, kib)| *kib as f64).sum::<f64>() / rss.len() as f64;
        results.note(what, contestant.kind, mean / 1024.0);
    }
}
