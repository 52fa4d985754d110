//! The better of two ("The Power of Two Choices in Randomized Load Balancing", Mitzenmacher 2001): both are drawn by
//! weight, the one with the smaller load is taken. On a tie the first, so that idle endpoints share by weight exactly.

use super::Group;
use rand::RngCore;

pub(super) fn pick(
    group: &Group,
    usable: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> f64,
    rng: &mut impl RngCore,
) -> Option<usize> {
    let a = group.draw_usable(&usable, None, rng)?;
    let Some(b) = group.draw_usable(&usable, Some(a), rng) else { return Some(group.slots[a]) };
    let (a, b) = (group.slots[a], group.slots[b]);
    Some(if load(b) < load(a) { b } else { a })
}
