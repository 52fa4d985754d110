//! What costs while nothing happens: idle connections in memory, an idle pair in CPU time, and how soon a sidecar is ready.

use crate::{
    cli::Args,
    contestant::{Contestant, Failure, Kind},
    load::Clients,
    peers::weir,
    results::{Results, What},
    scenario::Scenario,
};
use std::{net::SocketAddr, time::Duration};

/// Idle connections, each of which has made a request.
pub const CONNECTIONS: usize = 10_000;

/// From the last request until a connection counts as idle: Weir puts silent ones to rest within two seconds, and so may
/// anybody.
const SETTLED: Duration = Duration::from_secs(4);

/// How long an idle pair is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// Measures fresh pairs: memory that a load has left behind would hide what is asked.
pub async fn measure(
    args: &Args,
    binaries: &weir::Binaries,
    application: SocketAddr,
    results: &mut Results,
) -> Result<(), Failure> {
    for kind in args.kinds().into_iter().filter(|kind| !matches!(kind, Kind::Direct | Kind::Relay | Kind::EnvoyHttp2)) {
        let Some(pair) = Contestant::start(kind, binaries, args.other.as_ref(), application).await? else { continue };
        eprintln!("{CONNECTIONS} idle connections: {kind}");
        let ended = one(&pair, results).await;
        results.missing(&format!("idle connections of {kind}"), ended);
    }
    Ok(())
}

async fn one(pair: &Contestant, results: &mut Results) -> Result<(), Failure> {
    let caller = |pair: &Contestant| pair.rss().first().map_or(0.0, |(_, kib)| *kib as f64);
    // Pools are there before the connections are counted.
    let mut warm = Clients::connect(Scenario::Http1, &pair.http).await?;
    warm.exactly(2_000).await?;
    drop(warm);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = caller(pair);
    let mut clients = Clients::so_many(Scenario::Http1, &pair.http, CONNECTIONS, 1).await?;
    let outcome = clients.exactly_each().await?;
    if outcome.failed > 0 {
        return Err(format!("{} failed: {:?}", outcome.failed, outcome.first_failure).into());
    }
    tokio::time::sleep(SETTLED).await;
    let after = caller(pair);
    results.note(What::IdleConnection, pair.kind, (after - before) / CONNECTIONS as f64);
    results.note(What::MemoryWithIdle, pair.kind, after / 1024.0);
    let used = pair.usage();
    tokio::time::sleep(WATCHED).await;
    let used = pair.usage().zip(used).map_or(0.0, |(after, before)| (after - before).cpu.as_secs_f64());
    results.note(What::IdleCpu, pair.kind, used / WATCHED.as_secs_f64() * 100.0 / 2.0);
    Ok(())
}

/// How long sidecars take from the start of the process until they are ready, with the control plane answering.
pub async fn start(args: &Args, binaries: &weir::Binaries, results: &mut Results) -> Result<(), Failure> {
    eprintln!("start-up of Weir's sidecar");
    for took in weir::starts(binaries, args.rounds().max(3) as usize).await? {
        results.note(What::Start, Kind::Weir, took.as_secs_f64() * 1000.0);
    }
    Ok(())
}
