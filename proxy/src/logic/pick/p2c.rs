//! The better of two ("The Power of Two Choices in Randomized Load Balancing", Mitzenmacher 2001): both are drawn by
//! weight, the one with the smaller load is taken. On a tie the first, so that idle endpoints share by weight exactly.
//!
//! Where much is under way, one of the two is the endpoint that was taken last ("Load Balancing with Memory",
//! Mitzenmacher, Prabhakar, Shah 2002), and it is taken again while it is hardly busier than the other: requests that come
//! together go together, and share the writes of a connection.

use super::Group;
use rand::RngCore;

/// So many requests are under way for each endpoint where much is.
const MUCH: u64 = 8;
/// What is hardly busier: so many times the other's load.
const HARDLY: f64 = 1.25;

pub(super) fn pick(
    group: &Group,
    under_way: u64,
    usable: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> f64,
    rng: &mut impl RngCore,
) -> Option<usize> {
    if group.equal && under_way >= MUCH * group.len() as u64 {
        return pick_with_memory(group, usable, load, rng);
    }
    let a = group.draw_usable(&usable, None, rng)?;
    let Some(b) = group.draw_usable(&usable, Some(a), rng) else { return Some(group.slots[a]) };
    let (a, b) = (group.slots[a], group.slots[b]);
    Some(if load(b) < load(a) { b } else { a })
}

fn pick_with_memory(
    group: &Group,
    usable: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> f64,
    rng: &mut impl RngCore,
) -> Option<usize> {
    let last = group.taken_last().filter(|at| usable(group.slots[*at]));
    let other = group.draw_usable(&usable, last, rng);
    let taken = match (last, other) {
        (Some(last), Some(other)) => {
            let stays = load(group.slots[last]) <= load(group.slots[other]) * HARDLY;
            if stays { last } else { other }
        }
        (last, other) => last.or(other)?,
    };
    group.take(taken);
    Some(group.slots[taken])
}
