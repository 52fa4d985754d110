//! The pickers under seeds: shares, failover, panic, and what must hold for any set of endpoints.

use super::*;
use crate::logic::{PeakEwma, Ticket};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    cell::Cell,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) struct Fleet {
    pub(super) out: Vec<bool>,
    pub(super) load: Vec<f64>,
    generation: Cell<u64>,
    pub(super) under_way: Cell<u64>,
    pub(super) millis: Cell<u64>,
}

impl Fleet {
    pub(super) fn new(n: usize) -> Self {
        let (generation, under_way, millis) = Default::default();
        Self { out: vec![false; n], load: vec![1.0; n], generation, under_way, millis }
    }

    pub(super) fn set_out(&mut self, slots: impl IntoIterator<Item = usize>) {
        slots.into_iter().for_each(|s| self.out[s] = true);
        self.generation.set(self.generation.get() + 1);
    }
}

impl View for Fleet {
    fn is_available(&self, slot: usize) -> bool {
        !self.out[slot]
    }
    fn load(&self, slot: usize) -> f64 {
        self.load[slot]
    }
    fn generation(&self) -> u64 {
        self.generation.get()
    }
    fn under_way(&self) -> u64 {
        self.under_way.get()
    }
    fn millis(&self) -> u64 {
        self.millis.get()
    }
}

fn member(priority: u32, weight: u32) -> Member {
    Member { key: 0, priority, locality: priority, locality_weight: 1, weight, takes_requests: true }
}

const PART: Option<Part> = Some(Part { sidecar: 1, busy: 4 });

pub(super) fn policies() -> [LoadBalancing; 3] {
    [LoadBalancing::default(), LoadBalancing::LeastRequest { choices: 2 }, LoadBalancing::RoundRobin]
}

fn counts(picker: &Picker, fleet: &Fleet, n: usize) -> Vec<usize> {
    let mut rng = SmallRng::seed_from_u64(42);
    let mut counts = vec![0; fleet.out.len()];
    for _ in 0..n {
        if let Some(p) = picker.pick(fleet, &[], &mut rng) {
            counts[p.slot] += 1;
        }
    }
    counts
}

#[test]
fn idle_endpoints_share_by_weight() {
    for policy in policies() {
        let members = [member(0, 1), member(0, 2), member(0, 5)];
        let seen = counts(&Picker::new(&policy, &members, 50, PART), &Fleet::new(3), 80_000);
        for (seen, expected) in seen.iter().zip([10_000, 20_000, 50_000]) {
            assert!(seen.abs_diff(expected) < 600, "{policy:?}: {seen} for {expected}");
        }
    }
}

#[test]
fn round_robin_is_exact_and_spread_out() {
    let members = [member(0, 1), member(0, 1), member(0, 1)];
    let picker = Picker::new(&LoadBalancing::RoundRobin, &members, 50, PART);
    let (fleet, mut rng) = (Fleet::new(3), SmallRng::seed_from_u64(1));
    let mut slots = || picker.pick(&fleet, &[], &mut rng).unwrap().slot;
    let first: Vec<_> = (0..3).map(|_| slots()).collect();
    for _ in 0..10 {
        assert_eq!((0..3).map(|_| slots()).collect::<Vec<_>>(), first);
    }
}

#[test]
fn localities_share_by_their_weight_whatever_their_size() {
    let of = |locality, locality_weight| Member { locality, locality_weight, ..member(0, 1) };
    let members = [of(0, 3), of(1, 1), of(1, 1), of(1, 1)];
    let seen = counts(&Picker::new(&LoadBalancing::default(), &members, 50, PART), &Fleet::new(4), 40_000);
    assert!(seen[0].abs_diff(30_000) < 600, "{seen:?}");
}

#[test]
fn the_less_loaded_is_preferred() {
    for policy in &policies()[..2] {
        let mut fleet = Fleet::new(10);
        fleet.load[3] = 50.0;
        let seen = counts(&Picker::new(policy, &[member(0, 1); 10], 50, PART), &fleet, 10_000);
        assert!(seen[3] < 200, "{policy:?} {seen:?}");
    }
}

#[test]
fn the_next_priority_takes_what_the_first_cannot() {
    let members: Vec<_> = (0..10).map(|i| member(u32::from(i >= 5), 1)).collect();
    for policy in policies() {
        let picker = Picker::new(&policy, &members, 50, PART);
        let mut fleet = Fleet::new(10);
        let share = |fleet: &Fleet| counts(&picker, fleet, 10_000)[5..].iter().sum::<usize>();
        fleet.set_out([0]);
        // 80 % available, times 1.4: whole.
        assert_eq!(share(&fleet), 0);
        fleet.set_out([1, 2]);
        // 40 % times 1.4: 56 % stay.
        assert!(share(&fleet).abs_diff(4_400) < 300, "{}", share(&fleet));
        fleet.set_out([3, 4]);
        assert_eq!(share(&fleet), 10_000);
    }
}

#[test]
fn below_the_threshold_ejection_is_ignored_and_without_one_nobody_is_chosen() {
    for policy in policies() {
        let mut fleet = Fleet::new(4);
        fleet.set_out([0, 1, 2]);
        let panicking = Picker::new(&policy, &[member(0, 1); 4], 50, PART);
        assert!(counts(&panicking, &fleet, 4_000).iter().all(|n| *n > 500));
        let never = Picker::new(&policy, &[member(0, 1); 4], 0, PART);
        assert_eq!(counts(&never, &fleet, 100), [0, 0, 0, 100]);
        fleet.set_out([3]);
        assert_eq!(counts(&never, &fleet, 100), [0; 4]);
        fleet.out = vec![false; 4];
        fleet.set_out([]);
        assert!(counts(&panicking, &fleet, 4_000).iter().all(|n| *n > 500));
    }
}

#[test]
fn an_endpoint_that_drains_is_not_chosen_even_in_panic() {
    let mut members = [member(0, 1); 3];
    members[0].takes_requests = false;
    let mut fleet = Fleet::new(3);
    fleet.set_out([1, 2]);
    let seen = counts(&Picker::new(&LoadBalancing::default(), &members, 50, PART), &fleet, 1_000);
    assert!(seen[0] == 0 && seen[1] > 0 && seen[2] > 0);
}

/// Endpoints with their averages, and what is under way to them.
struct Live {
    loads: Vec<Arc<PeakEwma>>,
    start: Instant,
    now: Cell<Instant>,
    under_way: VecDeque<(Instant, usize, Ticket)>,
}

impl Live {
    fn new(n: usize) -> Self {
        let start = Instant::now();
        let ewma = |_| Arc::new(PeakEwma::new(Duration::from_secs(10), Duration::from_millis(30), start));
        Self { loads: (0..n).map(ewma).collect(), start, now: Cell::new(start), under_way: VecDeque::new() }
    }

    /// So much time has passed since the start: what was due is answered.
    fn is_at(&mut self, ms: u64) {
        let now = self.start + Duration::from_millis(ms);
        self.now.set(now);
        self.under_way.retain_mut(|(due, _, ticket)| {
            let waits = *due > now;
            if !waits {
                ticket.answered(now);
            }
            waits
        });
    }

    /// A request to this endpoint, answered after `ms`; 0: it fails at once.
    fn send(&mut self, slot: usize, ms: u64) {
        let now = self.now.get();
        let mut ticket = self.loads[slot].start(now);
        match ms {
            0 => ticket.failed(now),
            _ => self.under_way.push_back((now + Duration::from_millis(ms), slot, ticket)),
        }
    }

    fn to(&self, slot: usize) -> usize {
        self.under_way.iter().filter(|(_, to, _)| *to == slot).count()
    }
}

impl View for Live {
    fn is_available(&self, _: usize) -> bool {
        true
    }
    fn load(&self, slot: usize) -> f64 {
        self.loads[slot].cost(self.now.get())
    }
    fn generation(&self) -> u64 {
        0
    }
    fn under_way(&self) -> u64 {
        self.under_way.len() as u64
    }
    fn millis(&self) -> u64 {
        0
    }
}

/// Replays what made the black hole famous: one of three endpoints fails at once, the others answer in 20 ms. With few
/// requests under way and with many.
#[test]
fn an_endpoint_that_fails_fast_does_not_draw_traffic() {
    for rate in [1, 10] {
        let mut live = Live::new(3);
        let picker = Picker::new(&LoadBalancing::default(), &[member(0, 1); 3], 50, PART);
        let mut rng = SmallRng::seed_from_u64(9);
        let mut failed = 0;
        for ms in 0..20_000u64 {
            live.is_at(ms);
            for _ in 0..rate {
                let slot = picker.pick(&live, &[], &mut rng).unwrap().slot;
                failed += u32::from(slot == 0 && ms > 2_000);
                live.send(slot, if slot == 0 { 0 } else { 20 });
            }
        }
        assert!(failed <= 90 * rate, "{failed} of {} failed after the first two seconds", 18_000 * rate);
    }
}

#[test]
fn where_much_is_under_way_requests_go_together_and_still_where_least_is() {
    let mut live = Live::new(12);
    let picker = Picker::new(&LoadBalancing::default(), &[member(0, 1); 12], 50, PART);
    let mut rng = SmallRng::seed_from_u64(7);
    let (mut sent, mut moves, mut last, mut unequal) = ([0u32; 12], 0, None, vec![]);
    for ms in 0..2_000u64 {
        live.is_at(ms);
        for _ in 0..12 {
            let slot = picker.pick(&live, &[], &mut rng).unwrap().slot;
            sent[slot] += 1;
            moves += u32::from(last.replace(slot) != Some(slot));
            // The first one is half as fast.
            live.send(slot, if slot == 0 { 40 } else { 20 });
        }
        if ms > 200 {
            let to: Vec<usize> = (1..12).map(|slot| live.to(slot)).collect();
            unequal.push(to.iter().max().unwrap() - to.iter().min().unwrap());
        }
    }
    unequal.sort_unstable();
    let picks: u32 = sent.iter().sum();
    assert!(moves * 5 < picks, "{moves} moves in {picks} picks: of two that are drawn anew it is eleven in twelve");
    let others = sent[1..].iter().sum::<u32>() / 11;
    assert!((others / 5..others * 2 / 3).contains(&sent[0]), "{sent:?}");
    assert!(sent[1..].iter().all(|n| n.abs_diff(others) < others / 10), "{sent:?}");
    let median = unequal[unequal.len() / 2];
    assert!(median <= 16, "twenty are under way to each, between the most and the least {median}");
}

proptest! {
    #[test]
    fn a_pick_is_allowed_fresh_if_it_can_be_and_exists_if_any_is_available(
        shape in prop::collection::vec((0u32..3, 0u32..3, 1u32..5, 1u32..1_000_000, any::<bool>(), any::<bool>()), 0..200),
        tried in prop::collection::vec(0usize..200, 0..4),
        under_way in 0u64..2_000,
        which in 0usize..3,
        panic_threshold in 0u8..=100,
        seed: u64,
    ) {
        let members: Vec<_> = shape
            .iter()
            .enumerate()
            .map(|(key, (priority, locality, locality_weight, weight, takes_requests, _))| Member {
                key: key as u64,
                priority: *priority,
                locality: *locality,
                locality_weight: *locality_weight,
                weight: *weight,
                takes_requests: *takes_requests,
            })
            .collect();
        let mut fleet = Fleet::new(members.len());
        fleet.set_out((0..members.len()).filter(|i| shape[*i].5));
        let picker = Picker::new(&policies()[which], &members, panic_threshold, PART);
        fleet.under_way.set(under_way);
        let mut rng = SmallRng::seed_from_u64(seed);
        fleet.load.iter_mut().for_each(|l| *l = rng.random());
        let good = |s: usize| members[s].takes_requests && !fleet.out[s];
        for _ in 0..20 {
            match picker.pick(&fleet, &tried, &mut rng) {
                Some(p) => {
                    prop_assert!(members[p.slot].takes_requests);
                    prop_assert!(p.panicking || good(p.slot));
                    let fresh = (0..members.len()).any(|s| good(s) && !tried.contains(&s));
                    prop_assert!(!fresh || !tried.contains(&p.slot));
                }
                None => prop_assert!(!(0..members.len()).any(good)),
            }
        }
    }
}
