//! Which endpoint takes a request: first the priority level (by how healthy each is), then one endpoint of it.
//!
//! A [`Picker`] is built once per set of endpoints; a pick allocates nothing and takes no lock. What changes between
//! picks (load, ejection) is asked through a [`View`]. Levels and panic follow Envoy: a level is taken for whole while
//! 1/1.4 of its endpoints are available; below that the next one gets the rest; and where fewer than the panic
//! threshold are available, ejection is ignored, since so many failures are not the endpoints' own. Of a large level
//! only a part is used, as large as the load asks for (`aperture`).

mod aperture;
#[cfg(test)]
mod aperture_simulation;
mod least_request;
mod levels;
mod p2c;
mod round_robin;
#[cfg(test)]
mod simulation;

use super::below;
use levels::Levels;
use rand::RngCore;
use round_robin::Stride;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use weir_config::model::LoadBalancing;

/// What a pick asks about endpoints. Slots are places in the list that the [`Picker`] was built from.
pub trait View {
    /// Whether the endpoint may be chosen now (not ejected).
    fn is_available(&self, slot: usize) -> bool;

    /// Its load; smaller is better.
    fn load(&self, slot: usize) -> f64;

    /// A number that changes whenever `is_available` of any slot does.
    fn generation(&self) -> u64;

    /// Requests under way to all endpoints together.
    fn under_way(&self) -> u64;

    /// The time, since any moment that stays the same.
    fn millis(&self) -> u64;
}

/// What is fixed about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// A number for it alone, the same in every sidecar.
    pub key: u64,
    /// 0 is used first.
    pub priority: u32,
    /// A number for its locality.
    pub locality: u32,
    /// The share of its locality in the priority.
    pub locality_weight: u32,
    /// Its share in the locality.
    pub weight: u32,
    /// Whether the control plane says that it takes requests. Others count for the health of their level only.
    pub takes_requests: bool,
}

/// How much of a large level is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// A number for whoever picks, by which it is drawn who is in its part.
    pub sidecar: u64,
    /// Requests under way for each endpoint of the part, above which it is widened.
    pub busy: u32,
}

/// The endpoint that was chosen, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// Which.
    pub slot: usize,
    /// The index of the priority level; above 0: failed over.
    pub level: usize,
    /// Ejections were ignored.
    pub panicking: bool,
}

/// Chooses endpoints.
#[derive(Debug)]
pub struct Picker {
    policy: Policy,
    levels: Levels,
}

#[derive(Debug)]
enum Policy {
    PowerOfTwo,
    LeastRequest(u32),
    /// Of each step of each level.
    RoundRobin(Box<[Box<[Stride]>]>),
}

impl Picker {
    /// `panic_threshold_percent` 0: never panics. `part`: how large levels are used; `None`: whole.
    pub fn new(policy: &LoadBalancing, members: &[Member], panic_threshold_percent: u8, part: Option<Part>) -> Self {
        let levels = Levels::new(members, panic_threshold_percent, part);
        let policy = match policy {
            LoadBalancing::PeakEwma { .. } => Policy::PowerOfTwo,
            LoadBalancing::LeastRequest { choices } => Policy::LeastRequest((*choices).clamp(2, 10)),
            LoadBalancing::RoundRobin => {
                let strides = |steps: &[Group]| steps.iter().map(|s| Stride::new(s.weights())).collect();
                Policy::RoundRobin(levels.iter().map(strides).collect())
            }
        };
        Self { policy, levels }
    }

    /// Uses as much of each level as its predecessor did.
    pub fn after(self, before: &Self, millis: u64) -> Self {
        self.levels.open_as(&before.levels, millis);
        self
    }

    /// How many endpoints it uses now, of those that take requests.
    pub fn used(&self) -> usize {
        self.levels.used()
    }

    /// An endpoint for a request that has been to `tried` already. Those are avoided while there is another, also one
    /// of a lower priority. `None`: nobody takes requests.
    pub fn pick(&self, view: &impl View, tried: &[usize], rng: &mut impl RngCore) -> Option<Picked> {
        if self.levels.is_empty() {
            return None;
        }
        self.levels.refresh(view);
        let first = if self.levels.len() == 1 { 0 } else { self.levels.choose(rng.next_u64()) };
        let in_order = || std::iter::once(first).chain((0..self.levels.len()).filter(move |l| *l != first));
        let fresh = in_order().find_map(|level| self.pick_in(level, view, tried, rng));
        if fresh.is_some() || tried.is_empty() {
            return fresh;
        }
        in_order().find_map(|level| self.pick_in(level, view, &[], rng))
    }

    fn pick_in(&self, level: usize, view: &impl View, tried: &[usize], rng: &mut impl RngCore) -> Option<Picked> {
        let panicking = self.levels.is_panicking(level);
        let usable = |slot: usize| (panicking || view.is_available(slot)) && !tried.contains(&slot);
        let (step, last) = self.levels.steps(level);
        let slot = match self.pick_of(level, step, view, usable, rng) {
            // Nobody in the part that is used: anybody.
            None if step < last => self.pick_of(level, last, view, usable, rng),
            picked => picked,
        }?;
        Some(Picked { slot, level, panicking })
    }

    fn pick_of(
        &self,
        level: usize,
        step: usize,
        view: &impl View,
        usable: impl Fn(usize) -> bool,
        rng: &mut impl RngCore,
    ) -> Option<usize> {
        let group = self.levels.group(level, step);
        let load = |slot: usize| view.load(slot);
        match &self.policy {
            Policy::PowerOfTwo => p2c::pick(group, view.under_way(), usable, load, rng),
            Policy::LeastRequest(choices) => least_request::pick(group, *choices, usable, load, rng),
            Policy::RoundRobin(strides) => strides.get(level)?.get(step)?.pick(group, usable),
        }
    }
}

/// Endpoints of one priority level that take requests, with their weights summed up.
#[derive(Debug)]
pub(crate) struct Group {
    slots: Box<[usize]>,
    upto: Box<[u64]>,
    equal: bool,
    /// The position that was taken last where much is under way; beyond the last one: none.
    last: AtomicUsize,
}

impl Group {
    fn new(slots: Vec<usize>, weights: &[u64]) -> Self {
        let mut sum = 0u64;
        let upto = weights
            .iter()
            .map(|w| {
                sum = sum.saturating_add(*w);
                sum
            })
            .collect();
        let equal = weights.windows(2).all(|w| w[0] == w[1]);
        Self { slots: slots.into(), upto, equal, last: AtomicUsize::new(usize::MAX) }
    }

    fn len(&self) -> usize {
        self.slots.len()
    }

    fn taken_last(&self) -> Option<usize> {
        Some(self.last.load(Relaxed)).filter(|at| *at < self.len())
    }

    fn take(&self, at: usize) {
        self.last.store(at, Relaxed);
    }

    fn weights(&self) -> impl Iterator<Item = u64> + '_ {
        let before = std::iter::once(0).chain(self.upto.iter().copied());
        self.upto.iter().zip(before).map(|(upto, before)| upto - before)
    }

    /// A position by weight. The group is not empty.
    fn draw(&self, rng: &mut impl RngCore) -> usize {
        let draw = rng.next_u64();
        if self.equal {
            return below(draw, self.len() as u64) as usize;
        }
        let point = below(draw, self.upto.last().copied().unwrap_or(0));
        self.upto.partition_point(|upto| *upto <= point).min(self.len() - 1)
    }

    /// A usable position by weight that is not `other`: a few draws, then the first one after a draw.
    fn draw_usable(
        &self,
        usable: impl Fn(usize) -> bool,
        other: Option<usize>,
        rng: &mut impl RngCore,
    ) -> Option<usize> {
        const DRAWS: usize = 4;
        if self.slots.is_empty() {
            return None;
        }
        let fits = |at: usize| Some(at) != other && usable(self.slots[at]);
        let mut at = 0;
        for _ in 0..DRAWS {
            at = self.draw(rng);
            if fits(at) {
                return Some(at);
            }
        }
        (at..self.len()).chain(0..at).find(|at| fits(*at))
    }
}
