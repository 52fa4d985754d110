//! Priority levels: how much traffic each gets by how many of its endpoints are available (Envoy's overprovisioning
//! factor of 1.4), and whether it panics. Counted again only when the view's generation has changed.

use super::{
    Group, Member, Part, View,
    aperture::{self, Aperture},
};
use crate::logic::below;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

const OVERPROVISIONING_PERCENT: u64 = 140;

#[derive(Debug)]
pub(super) struct Levels {
    levels: Box<[Level]>,
    panic_threshold_percent: u8,
    /// The view's generation that was counted, plus one; 0: none.
    counted: AtomicU64,
}

#[derive(Debug)]
struct Level {
    /// Those that take requests: ever greater parts, the last one has them all.
    steps: Box<[Group]>,
    aperture: Aperture,
    /// Endpoints, those that take no requests included.
    total: u64,
    /// Percent of the traffic that goes to this level and those before it.
    upto: AtomicU32,
    panicking: AtomicBool,
}

impl Levels {
    pub(super) fn new(members: &[Member], panic_threshold_percent: u8, part: Option<Part>) -> Self {
        let mut by_priority: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (slot, member) in members.iter().enumerate() {
            by_priority.entry(member.priority).or_default().push(slot);
        }
        let levels = by_priority.into_values().map(|slots| Level::new(slots, members, part)).collect();
        Self { levels, panic_threshold_percent, counted: AtomicU64::new(0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.levels.len()
    }

    /// The steps of each level.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[Group]> {
        self.levels.iter().map(|l| &*l.steps)
    }

    /// A step of a level.
    pub(super) fn group(&self, level: usize, step: usize) -> &Group {
        &self.levels[level].steps[step]
    }

    /// The step that is used of a level, and the last one.
    pub(super) fn steps(&self, level: usize) -> (usize, usize) {
        let level = &self.levels[level];
        let last = level.steps.len() - 1;
        (level.aperture.step().min(last), last)
    }

    /// Endpoints that are used, of all levels.
    pub(super) fn used(&self) -> usize {
        self.levels.iter().map(|l| l.steps[l.aperture.step().min(l.steps.len() - 1)].len()).sum()
    }

    /// Each level begins as wide as its predecessor was.
    pub(super) fn open_as(&self, before: &Self, millis: u64) {
        for (level, before) in self.levels.iter().zip(&before.levels) {
            let size = before.steps[before.aperture.wanted().min(before.steps.len() - 1)].len();
            let step = level.steps.iter().position(|s| s.len() >= size).unwrap_or(level.steps.len() - 1);
            level.aperture.open_to(step, millis);
        }
    }

    pub(super) fn is_panicking(&self, level: usize) -> bool {
        self.levels[level].panicking.load(Relaxed)
    }

    /// The level that a uniform draw falls on.
    pub(super) fn choose(&self, draw: u64) -> usize {
        let point = below(draw, 100) as u32;
        self.levels.iter().position(|l| point < l.upto.load(Relaxed)).unwrap_or(0)
    }

    /// Counts again if an endpoint became available or unavailable since. Two threads may do so at once: they write the
    /// same, or the newer generation is counted once more.
    ///
    /// Levels that are not used whole follow the load.
    pub(super) fn refresh(&self, view: &impl View) {
        let generation = view.generation().wrapping_add(1).max(1);
        let mut moved = false;
        for level in self.levels.iter().filter(|l| l.steps.len() > 1) {
            let size = |step: usize| level.steps.get(step).map(Group::len);
            moved |= level.aperture.follow(size, view.under_way(), view.millis());
        }
        if moved || self.counted.load(Acquire) != generation {
            self.count(view);
            self.counted.store(generation, Release);
        }
    }

    #[cold]
    fn count(&self, view: &impl View) {
        let shares: Vec<Shares> = self.levels.iter().map(|l| l.shares(view)).collect();
        let health = |s: &Shares| (s.of_all * OVERPROVISIONING_PERCENT / 100).min(100);
        let whole = shares.iter().map(health).sum::<u64>().min(100);
        let mut upto = 0;
        for (level, share) in self.levels.iter().zip(&shares) {
            // With nobody available anywhere, the first level has all.
            let load = (health(share) * 100).checked_div(whole).unwrap_or(100);
            upto = (upto + load).min(100);
            level.upto.store(upto as u32, Relaxed);
            // A level in need panics only while the others cannot take its traffic.
            let panicking = whole < 100 && share.of_takers < u64::from(self.panic_threshold_percent);
            level.panicking.store(panicking, Relaxed);
            level.settle(view);
        }
    }
}

/// Percent of a level's endpoints that are available.
struct Shares {
    of_all: u64,
    of_takers: u64,
}

impl Level {
    fn new(slots: Vec<usize>, members: &[Member], part: Option<Part>) -> Self {
        let total = slots.len() as u64;
        let mut takers: Vec<usize> = slots.into_iter().filter(|s| members[*s].takes_requests).collect();
        let sizes = match part {
            Some(part) if takers.len() > aperture::SMALL => {
                let localities: BTreeSet<u32> = takers.iter().map(|s| members[*s].locality).collect();
                aperture::order(&mut takers, members, part.sidecar);
                aperture::sizes(takers.len(), localities.len())
            }
            _ => vec![takers.len()],
        };
        let steps = sizes.into_iter().map(|size| group(&takers[..size], members)).collect();
        Self {
            steps,
            aperture: Aperture::new(part),
            total,
            upto: AtomicU32::new(100),
            panicking: AtomicBool::new(false),
        }
    }

    /// All that take requests.
    fn whole(&self) -> &Group {
        &self.steps[self.steps.len() - 1]
    }

    fn settle(&self, view: &impl View) {
        if self.steps.len() == 1 {
            return;
        }
        // Each step has those before it, in the same order.
        let mut available = Vec::with_capacity(self.steps.len());
        let (mut from, mut sum) = (0, 0);
        for step in &self.steps {
            sum += step.slots[from..].iter().filter(|s| view.is_available(**s)).count();
            from = step.len();
            available.push(sum);
        }
        self.aperture.settle(self.steps.len(), |step| available[step], |step| self.steps[step].len());
    }

    fn shares(&self, view: &impl View) -> Shares {
        let available = self.whole().slots.iter().filter(|s| view.is_available(**s)).count() as u64;
        let percent = |of: u64| (available * 100).checked_div(of).unwrap_or(0);
        Shares { of_all: percent(self.total), of_takers: percent(self.whole().len() as u64) }
    }
}

/// Endpoints by weight: each locality has its share of the traffic, whichever of its endpoints are here.
fn group(takers: &[usize], members: &[Member]) -> Group {
    let mut in_locality: BTreeMap<u32, u64> = BTreeMap::new();
    for slot in takers {
        *in_locality.entry(members[*slot].locality).or_default() += u64::from(members[*slot].weight.max(1));
    }
    let weight = |slot: &usize| {
        let member = &members[*slot];
        let sum = in_locality.get(&member.locality).copied().unwrap_or(1).max(1);
        let share = u128::from(member.locality_weight.max(1)) * u128::from(member.weight.max(1));
        // 2^20: fine enough for shares, and a thousand endpoints of the greatest weight do not overflow.
        ((share << 20) / u128::from(sum)).clamp(1, u128::from(u64::MAX >> 10)) as u64
    };
    let weights: Vec<u64> = takers.iter().map(weight).collect();
    Group::new(takers.to_vec(), &weights)
}
