//! A round of one shape of load: everyone is asked for as long as everyone else, in slices that take turns.
//!
//! What the machine gives changes from second to second, and a request costs up to twice as much for it (`benches/tried.md`):
//! in short turns all have the same of it.

use crate::{
    contestant::{Contestant, Failure},
    load::{Clients, Outcome},
    results::{Mode, Rows},
    scenario::Scenario,
    usage::Usage,
};
use std::time::Duration;

/// At most so long, as fast as answers come.
const SLICE: Duration = Duration::from_millis(100);
/// The same, where an answer takes as long as that.
const SLICE_OF_BULK: Duration = Duration::from_millis(500);
/// The same, at a fixed rate: what is looked for there is rare, and pauses are not to be.
const SLICE_AT_RATE: Duration = Duration::from_secs(2);

/// Asks each for so long, at a rate or as fast as answers come, and adds what came of it to its row.
pub async fn in_slices(
    scenario: Scenario,
    contestants: &[Contestant],
    (mode, rate): (Mode, Option<u32>),
    lasts: Duration,
    rows: &mut Rows,
) -> Result<(), Failure> {
    let longest = match rate {
        Some(_) => SLICE_AT_RATE,
        None if scenario.is_bulk() => SLICE_OF_BULK,
        None => SLICE,
    };
    let count = lasts.div_duration_f64(longest).ceil().max(1.0) as u32;
    let mut asked = Vec::new();
    for contestant in contestants {
        let mut clients = Clients::connect(scenario, scenario.target(contestant)).await?;
        // Pools fill, caches warm.
        clients.closed(SLICE).await?;
        asked.push(Asked { contestant, clients, outcome: Outcome::default(), used: None });
    }
    for slice in 0..count {
        for at in order(asked.len(), slice) {
            asked[at].slice(rate, lasts / count).await?;
        }
    }
    for Asked { contestant, outcome, used, .. } in asked {
        rows.entry((scenario, mode, contestant.kind)).or_default().add(&outcome, used);
    }
    Ok(())
}

/// One of them, and what came of it so far.
struct Asked<'c> {
    contestant: &'c Contestant,
    clients: Clients,
    outcome: Outcome,
    used: Option<Usage>,
}

impl Asked<'_> {
    async fn slice(&mut self, rate: Option<u32>, lasts: Duration) -> Result<(), Failure> {
        if let Some(rate) = rate {
            // The first ones after a pause find cold caches, connections that have rested, and memory that was given back:
            // one of each client is not counted.
            self.clients.open(rate, SLICE.max(Duration::from_secs(self.clients.count()) / rate.max(1))).await?;
        }
        let before = self.contestant.usage();
        let outcome = match rate {
            None => self.clients.closed(lasts).await?,
            Some(rate) => self.clients.open(rate, lasts).await?,
        };
        self.outcome.then(outcome);
        if let Some((after, before)) = self.contestant.usage().zip(before) {
            self.used = Some(self.used.unwrap_or_default() + (after - before));
        }
        Ok(())
    }
}

/// Who comes when: in each slice another begins, and every second goes the other way round, so that none always comes after
/// the same.
fn order(count: usize, slice: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.rotate_left(slice as usize % count.max(1));
    if slice % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_came_of_slices_is_one() {
        let of = |done, ms: &[u64]| Outcome {
            done,
            took: Duration::from_secs(1),
            latencies: ms.iter().copied().map(Duration::from_millis).collect(),
            ..Outcome::default()
        };
        let mut all = of(3, &[1, 2, 9]);
        all.then(of(1, &[3]));
        assert_eq!((all.per_second(), all.latency(1.0), all.latency(0.5)), (2.0, 9 * MS, 2 * MS));
    }

    #[test]
    fn each_comes_once_in_a_slice_and_not_always_after_the_same() {
        let orders: Vec<_> = (0..6).map(|slice| order(3, slice)).collect();
        assert_eq!(orders[..3], [[0, 1, 2], [0, 2, 1], [2, 0, 1]]);
        for order in &orders {
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        }
        let firsts: Vec<_> = orders.iter().map(|order| order[0]).collect();
        assert!((0..3).all(|one| firsts.iter().filter(|first| **first == one).count() == 2), "{firsts:?}");
        assert!(order(0, 1).is_empty());
    }
}
