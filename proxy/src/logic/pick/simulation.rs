//! The pickers under seeds: shares, failover, panic, and what must hold for any set of endpoints.

use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{cell::Cell, time::Duration};

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

/// Replays what made the black hole famous: one of three endpoints fails at once, the others answer in 20 ms.
#[test]
fn an_endpoint_that_fails_fast_does_not_draw_traffic() {
    use crate::logic::PeakEwma;
    use std::{sync::Arc, time::Instant};

    struct Live(Vec<Arc<PeakEwma>>, Cell<Instant>);
    impl View for Live {
        fn is_available(&self, _: usize) -> bool {
            true
        }
        fn load(&self, slot: usize) -> f64 {
            self.0[slot].cost(self.1.get())
        }
        fn generation(&self) -> u64 {
            0
        }
        fn under_way(&self) -> u64 {
            0
        }
        fn millis(&self) -> u64 {
            0
        }
    }
    let start = Instant::now();
    let ewma = || Arc::new(PeakEwma::new(Duration::from_secs(10), Duration::from_millis(30), start));
    let live = Live((0..3).map(|_| ewma()).collect(), Cell::new(start));
    let picker = Picker::new(&LoadBalancing::default(), &[member(0, 1); 3], 50, PART);
    let mut rng = SmallRng::seed_from_u64(9);
    let (mut under_way, mut failed) = (std::collections::VecDeque::new(), 0);
    for ms in 0..20_000u64 {
        let now = start + Duration::from_millis(ms);
        live.1.set(now);
        while under_way.front().is_some_and(|(due, _)| *due <= now) {
            let (_, mut ticket): (Instant, crate::logic::Ticket) = under_way.pop_front().unwrap();
            ticket.answered(now);
        }
        let slot = picker.pick(&live, &[], &mut rng).unwrap().slot;
        let mut ticket = live.0[slot].start(now);
        if slot == 0 {
            ticket.failed(now);
            failed += u32::from(ms > 2_000);
        } else {
            under_way.push_back((now + Duration::from_millis(20), ticket));
        }
    }
    assert!(failed <= 90, "{failed} of 18000 failed after the first two seconds");
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
