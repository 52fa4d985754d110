//! What a request costs in meshes of different sizes, in instructions, which other work on the machine does not change.

use crate::{
    callgrind::{AtOnce, Counts, count_of},
    contestant::{Failure, Kind},
    peers::weir,
    scenario::Scenario,
};
use clap::ValueEnum;

const LOADS: [Scenario; 2] = [Scenario::Http1, Scenario::Grpc];

/// What there may be much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Services in the mesh: 5,000.
    Services,
    /// Routes on the host: 1,000.
    Routes,
    /// Endpoints of the service: 1,000 against 3.
    Endpoints,
}

/// Requests before those that are counted, and as many as are: every endpoint that is used has its connections.
const WARM: u64 = 2_500;

/// Counts, and prints how they compare. `sizes`: in which ways; none: all.
pub async fn run(binaries: &weir::Binaries, sizes: &[Size]) -> Result<(), Failure> {
    let all = [Size::Services, Size::Routes, Size::Endpoints];
    for size in all.into_iter().filter(|size| sizes.is_empty() || sizes.contains(size)) {
        let (large, small, at_once, warm) = match size {
            Size::Services => (Kind::WeirServices, Kind::Weir, AtOnce::One, 400),
            Size::Routes => (Kind::WeirRoutes, Kind::Weir, AtOnce::One, 400),
            Size::Endpoints => (Kind::WeirEndpoints, Kind::WeirFew, AtOnce::Many, WARM),
        };
        let count = async |kind| -> Result<_, Failure> {
            let counted = count_of(binaries, kind, &LOADS, at_once, warm).await?;
            counted.ok_or_else(|| "valgrind is not installed: run tests/setup".into())
        };
        let (before, now) = (count(small).await?, count(large).await?);
        for (load, counts) in &now {
            let of = before.get(load).copied().unwrap_or_default();
            let all = |c: &Counts| c.instructions + c.cryptography;
            println!(
                "{}: {large} over {small}: {:.3} ({:.0} and {:.0} instructions per request, with cryptography; {:.1} and {:.1} allocations)",
                load.name(),
                all(counts) / all(&of),
                all(counts),
                all(&of),
                counts.allocations,
                of.allocations,
            );
        }
    }
    Ok(())
}
