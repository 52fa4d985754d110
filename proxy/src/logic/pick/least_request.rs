//! The least loaded of several endpoints that are drawn by weight (gRFC A48): draws may meet the same one twice.

use super::Group;
use rand::RngCore;

pub(super) fn pick(
    group: &Group,
    choices: u32,
    usable: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> f64,
    rng: &mut impl RngCore,
) -> Option<usize> {
    let mut best = group.slots[group.draw_usable(&usable, None, rng)?];
    let mut least = load(best);
    for _ in 1..choices {
        let slot = group.slots[group.draw_usable(&usable, None, rng)?];
        let its = load(slot);
        if its < least {
            (best, least) = (slot, its);
        }
    }
    Some(best)
}
