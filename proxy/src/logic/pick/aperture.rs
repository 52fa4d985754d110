//! How much of a large level one sidecar uses.
//!
//! A connection costs both of its ends, and requests that share one cost less: a sidecar that spreads a little traffic
//! over a thousand endpoints pays for a thousand connections with hardly a request on each. So it uses a part, whose
//! size follows its load. The parts are steps, each half as large again as the one before and with all of it; the last is
//! the level.
//!
//! Which endpoints stand first is drawn by rendezvous (a hash of the sidecar and the endpoint, gRFC A68): sidecars differ,
//! a sidecar keeps its part over restarts, and endpoints that come and go leave the others where they are. Localities
//! are taken in proportion to their size or their share of the traffic, whichever is greater, and each has a place.
//!
//! Small levels are used whole, and so is any level whose load asks for it: one caller alone reaches every endpoint.

use super::{Member, Part};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Levels up to this size are used whole.
pub(super) const SMALL: usize = 32;
/// A part has at least so many.
pub(super) const FLOOR: usize = 8;
/// It is narrowed when half as many would have been enough for the step below, for so long.
pub(super) const CALM_MILLIS: u64 = 30_000;

/// How far open a level is.
#[derive(Debug)]
pub(super) struct Aperture {
    /// It is widened when there are more requests under way than this for each of its endpoints.
    busy: u64,
    /// The step that the load asks for.
    wanted: AtomicUsize,
    /// The step that is used: greater where endpoints of the one wanted are not available.
    used: AtomicUsize,
    /// When the step below was last too small.
    busy_at: AtomicU64,
}

impl Aperture {
    /// Not opened yet.
    pub(super) fn new(part: Option<Part>) -> Self {
        let (wanted, used, busy_at) = Default::default();
        Self { busy: part.map_or(u64::MAX, |part| part.busy.max(1).into()), wanted, used, busy_at }
    }

    /// The step to pick from.
    pub(super) fn step(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The step that the load asks for.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.load(Relaxed)
    }

    /// Opens or closes by a step for the requests under way; whether it did, so that availability must be looked at.
    pub(super) fn follow(&self, sizes: impl Fn(usize) -> Option<usize>, under_way: u64, millis: u64) -> bool {
        let wanted = self.wanted();
        let enough = |step: usize| sizes(step).map_or(u64::MAX, |size| self.busy.saturating_mul(size as u64));
        if under_way > enough(wanted) && sizes(wanted + 1).is_some() {
            self.wanted.store(wanted + 1, Relaxed);
            self.busy_at.store(millis, Relaxed);
            return true;
        }
        let Some(below) = wanted.checked_sub(1) else { return false };
        if under_way > enough(below) / 2 {
            self.busy_at.store(millis, Relaxed);
        } else if millis.saturating_sub(self.busy_at.load(Relaxed)) >= CALM_MILLIS {
            self.wanted.store(below, Relaxed);
            self.busy_at.store(millis, Relaxed);
            return true;
        }
        false
    }

    /// Uses the first step from the wanted one that has as many endpoints available as nine tenths of the wanted one, or
    /// the last. `available` and `size` of a step.
    pub(super) fn settle(&self, steps: usize, available: impl Fn(usize) -> usize, size: impl Fn(usize) -> usize) {
        let wanted = self.wanted();
        let needed = size(wanted) * 9 / 10;
        let step = (wanted..steps).find(|step| available(*step) >= needed);
        self.used.store(step.unwrap_or(steps.saturating_sub(1)), Relaxed);
    }

    /// Begins as wide as its predecessor was.
    pub(super) fn open_to(&self, step: usize, millis: u64) {
        self.wanted.store(step, Relaxed);
        self.used.store(step, Relaxed);
        self.busy_at.store(millis, Relaxed);
    }
}

/// The sizes of the steps for so many endpoints in so many localities.
pub(super) fn sizes(endpoints: usize, localities: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut size = FLOOR.max(localities);
    while size < endpoints {
        sizes.push(size);
        size += size / 2;
    }
    sizes.push(endpoints);
    sizes
}

/// Puts the endpoints of a level in the order in which this sidecar takes them.
pub(super) fn order(slots: &mut [usize], members: &[Member], sidecar: u64) {
    let mut localities: BTreeMap<u32, Vec<(u64, usize)>> = BTreeMap::new();
    for slot in slots.iter() {
        let member = &members[*slot];
        localities.entry(member.locality).or_default().push((mixed(sidecar ^ member.key), *slot));
    }
    let shares: f64 = localities.values().map(|own| share(members, own)).sum();
    let mut places = Vec::with_capacity(slots.len());
    for (locality, own) in &mut localities {
        own.sort_unstable();
        let by_size = own.len() as f64 / slots.len() as f64;
        let density = by_size.max(share(members, own) / shares.max(1.0));
        // Sidecars round up and down differently.
        let turn = mixed(sidecar ^ u64::from(*locality).wrapping_mul(ODD)) as f64 / u64::MAX as f64;
        places.extend(own.iter().enumerate().map(|(rank, (hash, slot))| {
            let at = if rank == 0 { 0.0 } else { (rank as f64 + turn) / density };
            (at, *hash, *slot)
        }));
    }
    places.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (slot, (_, _, placed)) in slots.iter_mut().zip(places) {
        *slot = placed;
    }
}

fn share(members: &[Member], own: &[(u64, usize)]) -> f64 {
    own.first().map_or(0.0, |(_, slot)| f64::from(members[*slot].locality_weight.max(1)))
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: every bit of the result depends on every bit of the argument.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(ODD);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
