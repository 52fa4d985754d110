//! When a rotation goes on, and when it waits: several replicas on one store, and a clock that is passed in.

use super::*;
use crate::{
    ca::Source,
    fleet::{Seat, Trust, tests::who},
    metrics::Metrics,
    store::{Batch, Memory},
};

/// One replica: it leads, or not.
fn replica(store: &Arc<dyn Store>, who: &str, leads: bool) -> Arc<Rotations> {
    replica_with(store, who, leads, Duration::from_secs(10))
}

fn replica_with(store: &Arc<dyn Store>, who: &str, leads: bool, settle: Duration) -> Arc<Rotations> {
    let ca = Ca::open(Source::Own, &StoreVault(store.clone()), SystemTime::now()).unwrap();
    let until = leads.then(|| Instant::now() + Duration::from_secs(3600));
    let (_, leader) = watch::channel(Standing { until, other: String::new() });
    let fleet = Fleet::new(Metrics::default());
    Rotations::new(store.clone(), ca, fleet, leader, who.into(), settle, &Registry::new()).unwrap()
}

fn proxy(replica: &Rotations, node: &str) -> Seat {
    replica.fleet.connect(who(node))
}

/// The proxy reports what this replica has it trust and show.
fn reports(seat: &Seat, replica: &Rotations) {
    let roots = ca::roots_id(&replica.ca.roots().borrow()).into();
    seat.trusts(Trust { asks: true, roots, issuer: replica.ca.issuer().into() });
}

fn phase(replica: &Rotations) -> Option<Phase> {
    replica.ca.kept().unwrap().rotation.map(|r| r.phase)
}

#[test]
fn the_leader_waits_for_the_proxies_of_all_replicas_and_for_a_while() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let (a, b) = (replica(&store, "a", true), replica(&store, "b", false));
    let (seat_a, seat_b) = (proxy(&a, "demo/a"), proxy(&b, "demo/b"));
    let (time, mut now) = (SystemTime::now(), Instant::now());
    let mut steps = |seconds: u64| {
        for _ in 0..seconds {
            now += Duration::from_secs(1);
            b.step(now, time);
            a.step(now, time);
        }
    };
    steps(1);
    a.start(false, time).unwrap();
    reports(&seat_a, &a);
    b.ca.refresh(&StoreVault(store.clone())).unwrap();
    seat_b.trusts(Trust { asks: true, ..Trust::default() });
    steps(30);
    assert_eq!(phase(&a), Some(Phase::Spreading), "a proxy of the other replica has not reported");
    assert_eq!((a.overview().facts.unaware, a.overview().names.concat()), (1, "demo/b".to_owned()));
    reports(&seat_b, &b);
    steps(9);
    assert_eq!(phase(&a), Some(Phase::Spreading), "not at once: somebody may be on the way between replicas");
    steps(3);
    assert_eq!(phase(&a), Some(Phase::Renewing));
    // Certificates of the old issuer are still shown.
    steps(30);
    assert_eq!(phase(&a), Some(Phase::Renewing));
    reports(&seat_a, &a);
    reports(&seat_b, &b);
    steps(12);
    assert_eq!(phase(&a), Some(Phase::Retiring));
    reports(&seat_a, &a);
    reports(&seat_b, &b);
    steps(12);
    assert_eq!((phase(&a), a.ca.kept().unwrap().last.as_str()), (None, "done"));
    assert_eq!(a.ca.roots().borrow().len(), 1);
}

#[test]
fn who_does_not_lead_or_is_held_stays_and_a_dead_replica_is_not_waited_for() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let (a, b) = (replica(&store, "a", true), replica(&store, "b", false));
    let seat = proxy(&b, "demo/b");
    seat.trusts(Trust { asks: true, ..Trust::default() });
    let (time, begun) = (SystemTime::now(), Instant::now());
    let at = |seconds: u64| begun + Duration::from_secs(seconds);
    a.start(true, time).unwrap();
    for n in 0..20 {
        b.step(at(n), time);
    }
    assert_eq!(phase(&b), Some(Phase::Spreading), "it does not lead");
    // From here on it is dead: what it last said stays as it is.
    for n in 20..60 {
        a.step(at(n), time);
    }
    assert_eq!(phase(&a), Some(Phase::Spreading), "held");
    a.change(|kept| kept.hold(false)).unwrap();
    a.step(at(60), time);
    a.step(at(71), time);
    assert_eq!(phase(&a), Some(Phase::Renewing));
}

#[test]
fn a_replica_that_was_silent_since_the_last_rotation_is_waited_for_in_the_next() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let settle = Duration::from_secs(1);
    let (a, b) = (replica_with(&store, "a", true, settle), replica_with(&store, "b", false, settle));
    let seat = proxy(&b, "demo/b");
    let (time, mut now) = (SystemTime::now(), Instant::now());
    b.step(now, time);
    for round in 0..3 {
        a.start(false, time).unwrap();
        // The other one looks at the store every three seconds only, and the leader must not think that it is dead.
        let mut seconds = 0;
        while phase(&a).is_some() {
            (now, seconds) = (now + Duration::from_secs(1), seconds + 1);
            if seconds > 2 {
                b.step(now, time);
            }
            let before = phase(&a);
            a.step(now, time);
            if phase(&a) != before {
                assert_eq!(a.overview().replicas, 2, "round {round}, after {seconds} s in {before:?}");
            }
            reports(&seat, &b);
            assert!(seconds < 100);
        }
        // Fifty seconds in which nobody has anything to say.
        for _ in 0..50 {
            now += Duration::from_secs(1);
            a.step(now, time);
        }
    }
    // One that has died is swept away at last.
    for _ in 0..500 {
        now += Duration::from_secs(1);
        a.step(now, time);
    }
    assert_eq!(store.meta_names(REPORTS).unwrap(), ["replica/a"]);
}

/// A Workload of namespace `demo`.
fn workload(store: &Arc<dyn Store>, name: &str) {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, namespace: demo}}\nspec: {{address: 10.0.0.1, serviceAccount: web}}\n"
    );
    let documents = weir_config::resources::parse("test", &text).unwrap();
    store.apply(&Batch::put_all(documents)).unwrap();
}

#[test]
fn a_replica_that_is_cut_off_is_waited_for_until_its_proxies_are_with_others() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    workload(&store, "b");
    let settle = Duration::from_secs(1);
    let (a, b) = (replica_with(&store, "a", true, settle), replica_with(&store, "b", false, settle));
    let seat = proxy(&b, "demo/b");
    seat.trusts(Trust { asks: true, ..Trust::default() });
    let (time, mut now) = (SystemTime::now(), Instant::now());
    b.step(now, time);
    // From here on it says nothing. Even if it has been so for long, nobody takes it for dead.
    let mut steps = |seconds: u64| {
        for _ in 0..seconds {
            now += Duration::from_secs(1);
            a.step(now, time);
        }
    };
    steps(1000);
    a.start(false, time).unwrap();
    steps(1000);
    assert_eq!(phase(&a), Some(Phase::Spreading), "its proxy does not know the new root");
    let waits = a.overview();
    assert_eq!((waits.facts.behind, waits.names.concat()), (1, "demo/b".to_owned()), "and whoever asks is told so");
    // The proxy comes over.
    let moved = proxy(&a, "demo/b");
    reports(&moved, &a);
    steps(5);
    assert_eq!(phase(&a), Some(Phase::Renewing));
    // What is gone is not waited for.
    let other = proxy(&b, "demo/c");
    other.trusts(Trust { asks: true, ..Trust::default() });
    b.enroll(Instant::now() + Duration::from_secs(1000));
    reports(&moved, &a);
    steps(30);
    assert_eq!(phase(&a), Some(Phase::Retiring), "there is no Workload demo/c");
}
