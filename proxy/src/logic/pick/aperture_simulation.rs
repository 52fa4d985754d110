//! Parts of large levels under seeds: whom they hold, how they follow the load, and how evenly many sidecars spread.

use super::{aperture::*, simulation::*, *};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeSet;

fn fleet_of(keys: impl Iterator<Item = u64>) -> Vec<Member> {
    keys.map(|key| Member {
        // As an address would be hashed.
        key: key.wrapping_mul(0x2545_f491_4f6c_dd1d),
        priority: 0,
        locality: 0,
        locality_weight: 1,
        weight: 1,
        takes_requests: true,
    })
    .collect()
}

const BUSY: u64 = 4;

fn sidecar(n: u64) -> u64 {
    SmallRng::seed_from_u64(n).random()
}

fn picker(members: &[Member], who: u64) -> Picker {
    Picker::new(&LoadBalancing::default(), members, 50, Some(Part { sidecar: sidecar(who), busy: BUSY as u32 }))
}

/// Whom it picks in so many picks.
fn seen(picker: &Picker, fleet: &Fleet, picks: usize) -> BTreeSet<usize> {
    let mut rng = SmallRng::seed_from_u64(7);
    (0..picks).filter_map(|_| picker.pick(fleet, &[], &mut rng)).map(|p| p.slot).collect()
}

#[test]
fn small_levels_are_used_whole_and_large_ones_in_part() {
    for policy in policies() {
        for (size, used) in [(1, 1), (SMALL, SMALL), (SMALL + 1, FLOOR), (1000, FLOOR)] {
            let picker =
                Picker::new(&policy, &fleet_of(0..size as u64), 50, Some(Part { sidecar: 3, busy: BUSY as u32 }));
            let seen = seen(&picker, &Fleet::new(size), 4_000);
            assert_eq!((seen.len(), picker.used()), (used, used), "{policy:?} {size}");
            assert_eq!(Picker::new(&policy, &fleet_of(0..size as u64), 50, None).used(), size);
        }
    }
}

#[test]
fn one_caller_with_much_under_way_uses_all_and_closes_when_calm() {
    let (picker, fleet) = (picker(&fleet_of(0..1000), 1), Fleet::new(1000));
    fleet.under_way.set(FLOOR as u64 * BUSY);
    seen(&picker, &fleet, 100);
    assert_eq!(picker.used(), FLOOR, "as much as the part bears");
    fleet.under_way.set(FLOOR as u64 * BUSY + 1);
    seen(&picker, &fleet, 100);
    assert_eq!(picker.used(), FLOOR + FLOOR / 2);
    fleet.under_way.set(768 * BUSY + 1);
    assert!(seen(&picker, &fleet, 20_000).len() > 990, "all of them");
    fleet.under_way.set(10);
    fleet.millis.set(CALM_MILLIS - 1);
    seen(&picker, &fleet, 100);
    assert_eq!(picker.used(), 1000, "not at once");
    for step in 1..=12 {
        fleet.millis.set(step * CALM_MILLIS);
        seen(&picker, &fleet, 10);
    }
    assert_eq!(picker.used(), FLOOR);
}

#[test]
fn a_steady_load_does_not_make_it_flap() {
    for under_way in [100, 129, 200, 300, 700, 1500] {
        let (picker, fleet) = (picker(&fleet_of(0..1000), 1), Fleet::new(1000));
        fleet.under_way.set(under_way);
        seen(&picker, &fleet, 100);
        let settled = picker.used();
        for minute in 1..10 {
            fleet.millis.set(minute * 60_000);
            // Half as much more or less is the same load.
            fleet.under_way.set(under_way - under_way / 10);
            seen(&picker, &fleet, 10);
            fleet.under_way.set(under_way);
            seen(&picker, &fleet, 10);
        }
        assert_eq!(picker.used(), settled, "{under_way} under way");
    }
}

#[test]
fn ejected_endpoints_are_made_up_for() {
    let (picker, mut fleet) = (picker(&fleet_of(0..1000), 5), Fleet::new(1000));
    let part = seen(&picker, &fleet, 4_000);
    fleet.set_out(part.iter().copied().take(1));
    assert_eq!((seen(&picker, &fleet, 4_000).len(), picker.used()), (FLOOR - 1, FLOOR), "the others bear it");
    fleet.set_out(part.iter().copied().take(2));
    let wider = seen(&picker, &fleet, 4_000);
    assert_eq!((wider.len(), picker.used()), (FLOOR + FLOOR / 2 - 2, FLOOR + FLOOR / 2));
    // All of the part and of the next: any other that is available.
    fleet.set_out(part.iter().chain(&wider).copied());
    assert!(seen(&picker, &fleet, 4_000).len() >= FLOOR - 3);
    fleet.out = vec![false; 1000];
    fleet.set_out([]);
    assert_eq!(seen(&picker, &fleet, 4_000), part, "back to the same part");
}

#[test]
fn a_part_is_stable_when_endpoints_come_and_go_and_differs_between_sidecars() {
    let keys_of = |members: &[Member], who: u64| -> BTreeSet<u64> {
        let used = seen(&picker(members, who), &Fleet::new(members.len()), 4_000);
        used.into_iter().map(|slot| members[slot].key).collect()
    };
    let before = keys_of(&fleet_of(0..1000), 1);
    // One in ten is replaced, and the order is another one.
    let after = keys_of(&fleet_of((100..1100).rev()), 1);
    assert!(before.intersection(&after).count() >= FLOOR * 3 / 4, "{}", before.intersection(&after).count());
    let other = keys_of(&fleet_of(0..1000), 2);
    assert!(before.intersection(&other).count() <= FLOOR / 4);
}

#[test]
fn a_successor_is_as_wide_as_it_was() {
    let (old, fleet) = (picker(&fleet_of(0..1000), 1), Fleet::new(1001));
    fleet.under_way.set(BUSY * 150);
    seen(&old, &fleet, 100);
    assert_eq!(old.used(), 202);
    assert_eq!(picker(&fleet_of(0..1001), 1).after(&old, 0).used(), 202);
    assert_eq!(picker(&fleet_of(0..60), 1).after(&old, 0).used(), 60);
}

#[test]
fn many_sidecars_together_load_endpoints_evenly() {
    // 1,000 sidecars with 8 of 1,000 each: 8 sidecars an endpoint on average, with a binomial spread.
    let members = fleet_of(0..1000);
    let mut callers = vec![0u32; 1000];
    for who in 0..1000 {
        let picker = picker(&members, who);
        let (step, _) = picker.levels.steps(0);
        picker.levels.group(0, step).slots.iter().for_each(|slot| callers[*slot] += 1);
    }
    let (least, most) = (*callers.iter().min().unwrap(), *callers.iter().max().unwrap());
    assert!(least >= 1 && most <= 20, "between {least} and {most} sidecars");
    let variance = callers.iter().map(|n| (f64::from(*n) - 8.0).powi(2)).sum::<f64>() / 1000.0;
    assert!(variance < 9.0, "no more than chance: {variance}");
}

#[test]
fn localities_keep_their_share_of_the_traffic() {
    // Three endpoints of 1,000 are to take three quarters.
    let mut members = fleet_of(0..1000);
    for (slot, member) in members.iter_mut().enumerate() {
        (member.locality, member.locality_weight) = if slot < 3 { (0, 3) } else { (1, 1) };
    }
    for who in 0..10 {
        let (picker, fleet, mut rng) = (picker(&members, who), Fleet::new(1000), SmallRng::seed_from_u64(who));
        let few = (0..20_000).filter(|_| picker.pick(&fleet, &[], &mut rng).unwrap().slot < 3).count();
        assert!(few.abs_diff(15_000) < 400, "sidecar {who}: {few}");
    }
}

proptest! {
    #[test]
    fn every_step_has_the_one_before_and_every_locality(
        localities in prop::collection::vec((0u32..50, 1u32..10), 0..500),
        who: u64,
    ) {
        let mut members = fleet_of(0..localities.len() as u64);
        for (member, (locality, weight)) in members.iter_mut().zip(&localities) {
            (member.locality, member.locality_weight) = (*locality, *weight);
        }
        let picker = picker(&members, who);
        for steps in picker.levels.iter() {
            let sets: Vec<BTreeSet<usize>> = steps.iter().map(|s| s.slots.iter().copied().collect()).collect();
            prop_assert!(sets.windows(2).all(|w| w[0].is_subset(&w[1]) && w[0].len() < w[1].len()));
            prop_assert_eq!(sets.last().unwrap().len(), members.len());
            let first: BTreeSet<u32> = sets[0].iter().map(|slot| members[*slot].locality).collect();
            let all: BTreeSet<u32> = members.iter().map(|m| m.locality).collect();
            prop_assert_eq!(first, all);
        }
    }
}
