//! The rounds: every contestant gets every scenario in turn, again and again.

use crate::{
    application::Application,
    callgrind, calls,
    cli::{Args, Part},
    contestant::{Contestant, Failure, Kind},
    handshakes, idle, machine,
    peers::weir,
    report::Report,
    results::{Mode, Results, What},
    scenario::Scenario,
    slices::in_slices,
    variants,
};
use std::{net::SocketAddr, path::Path, time::Duration};

/// Starts everything, measures, prints and writes the report. Processes end with it.
pub fn run(args: &Args) -> Result<(), Failure> {
    machine::raise_file_limit();
    let _first = machine::come_first();
    let binaries = weir::Binaries::find()?;
    // One thread makes the load, so that it leaves the other cores to the proxies.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::new(args);
    let application = Application::start()?;
    runtime.block_on(async {
        let mut contestants = Vec::new();
        for kind in args.kinds() {
            let started = Contestant::start(kind, &binaries, args.other.as_ref(), application.address).await?;
            contestants.extend(started);
        }
        together(args, &contestants, &mut report).await?;
        drop(contestants);
        alone(args, &binaries, application.address, &mut report).await
    })?;
    println!("{report}");
    Ok(())
}

/// What all contestants do in turn.
async fn together(args: &Args, contestants: &[Contestant], report: &mut Report) -> Result<(), Failure> {
    let results = &mut report.results;
    // Idle is who has come to rest after the start: Weir's sidecars give back what only that needed within a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for contestant in contestants {
        results.versions.push((contestant.kind, contestant.version.clone()));
        memory(contestant, What::IdleMemory, results);
    }
    if args.has(Part::Load) {
        load(args, contestants, results).await?;
    }
    if args.has(Part::Calls) {
        let ended = calls::measure(args, contestants, results).await;
        results.missing("system calls", ended);
    }
    contestants.iter().for_each(|contestant| memory(contestant, What::LastMemory, results));
    if args.has(Part::Handshakes) {
        let ended = handshakes::measure(args, contestants, results).await;
        results.missing("handshakes", ended);
    }
    save(args, report)
}

/// What needs fresh pairs, the others gone. Each part is saved: what comes after may go wrong.
async fn alone(
    args: &Args,
    binaries: &weir::Binaries,
    application: SocketAddr,
    report: &mut Report,
) -> Result<(), Failure> {
    let size = std::fs::metadata(binaries.proxy())?.len() as f64;
    report.results.note(What::Binary, Kind::Weir, size / 1_048_576.0);
    if args.has(Part::Idle) {
        let ended = idle::measure(args, binaries, application, &mut report.results).await;
        report.results.missing("idle connections", ended);
        save(args, report)?;
    }
    if args.has(Part::Start) {
        let ended = idle::start(args, binaries, &mut report.results).await;
        report.results.missing("start-up", ended);
    }
    if args.has(Part::Counts) {
        match callgrind::count(binaries).await {
            Ok(counts) => report.results.counts = counts.unwrap_or_default(),
            Err(error) => report.results.missing("instructions", Err(error)),
        }
        save(args, report)?;
    }
    if args.has(Part::Variants) {
        let ended = variants::measure(args, binaries, application, &mut report.results).await;
        report.results.missing("variants", ended);
    }
    save(args, report)
}

/// Writes the page, if one is wanted.
fn save(args: &Args, report: &Report) -> Result<(), Failure> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    if let Some(path) = args.output.clone().or(args.is_whole().then_some(page)) {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, report.to_string())?;
    }
    Ok(())
}

async fn load(args: &Args, contestants: &[Contestant], results: &mut Results) -> Result<(), Failure> {
    let rounds = args.rounds();
    for round in 1..=rounds {
        for scenario in args.scenarios() {
            eprintln!("round {round} of {rounds}: {scenario:?}");
            in_slices(scenario, contestants, (Mode::Closed, None), args.lasts() * 2, &mut results.rows).await?;
            if !scenario.at_fixed_rates() {
                continue;
            }
            if let Some(half) = results.half_of_slowest(scenario) {
                results.half.entry(scenario).or_insert(half);
            }
            let half = results.half.get(&scenario).map(|rate| (Mode::Half, *rate));
            for (mode, rate) in args.rates.iter().map(|rate| (Mode::Rate(*rate), *rate)).chain(half) {
                in_slices(scenario, contestants, (mode, Some(rate)), args.lasts_at(rate), &mut results.rows).await?;
            }
            if scenario == Scenario::Http1 && round == 1 {
                contestants.iter().for_each(|contestant| memory(contestant, What::BusyMemory, results));
            }
        }
    }
    Ok(())
}

fn memory(contestant: &Contestant, what: What, results: &mut Results) {
    let rss = contestant.rss();
    if contestant.kind != Kind::Direct && !rss.is_empty() {
        let mean = rss.iter().map(|(_, kib)| *kib as f64).sum::<f64>() / rss.len() as f64;
        results.note(what, contestant.kind, mean / 1024.0);
    }
}
