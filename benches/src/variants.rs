//! Weir against itself: what policies cost, what a large mesh costs, what a second thread gives.

use crate::{
    cli::Args,
    contestant::{Contestant, Failure, Kind},
    load::Clients,
    peers::weir,
    results::{Mode, Results},
    scenario::Scenario,
    slices::in_slices,
};
use std::net::SocketAddr;

/// The variants, after Weir as it is.
pub const KINDS: [Kind; 8] = [
    Kind::Weir,
    Kind::WeirAll,
    Kind::WeirNone,
    Kind::WeirServices,
    Kind::WeirRoutes,
    Kind::WeirFew,
    Kind::WeirEndpoints,
    Kind::WeirTwo,
];

/// The loads that they get.
pub const SCENARIOS: [Scenario; 2] = [Scenario::Http1, Scenario::Grpc];

/// Requests before anything is measured: so many that each of a thousand endpoints has its connections.
const WARM: u64 = 20_000;

/// As many rounds for each of the bench's: what is looked for is a twentieth of a request's cost.
const TIMES: u32 = 5;

/// How many rounds there are.
pub fn rounds(args: &Args) -> u32 {
    args.rounds() * TIMES
}

/// Rounds of all of them, beside the others' rounds in `results`.
pub async fn measure(
    args: &Args,
    binaries: &weir::Binaries,
    application: SocketAddr,
    results: &mut Results,
) -> Result<(), Failure> {
    let mut pairs = Vec::new();
    for kind in KINDS {
        eprintln!("starting {kind}");
        let Some(pair) = Contestant::start(kind, binaries, None, application).await? else { continue };
        for scenario in SCENARIOS {
            Clients::connect(scenario, scenario.target(&pair)).await?.exactly(WARM).await?;
        }
        pairs.push(pair);
    }
    let rounds = rounds(args);
    for round in 1..=rounds {
        eprintln!("variants: round {round} of {rounds}");
        for scenario in SCENARIOS {
            in_slices(scenario, &pairs, (Mode::Closed, None), args.lasts(), &mut results.variants).await?;
        }
    }
    Ok(())
}
