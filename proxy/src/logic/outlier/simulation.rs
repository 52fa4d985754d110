//! The breaker under seeds: random endpoints, outcomes and times, and what must hold after each step.

use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use weir_config::model::GrpcCode;

const S: Duration = Duration::from_secs(1);

fn config() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(5),
        consecutive_gateway_failure: None,
        interval: 10 * S,
        base_ejection_time: 30 * S,
        max_ejection_time: 300 * S,
        max_ejection_percent: 50,
        failure_percentage: None,
    }
}

fn endpoints(n: usize) -> Vec<Arc<EndpointHealth>> {
    (0..n).map(|_| Arc::default()).collect()
}

fn fail(outlier: &Outlier, slot: usize, n: u32, now: Instant) -> Option<Change> {
    (0..n).filter_map(|_| outlier.record(slot, Outcome::ServerError, now)).last()
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
    let now = Instant::now();
    let outlier = Outlier::new(config(), endpoints(4), now);
    assert_eq!(fail(&outlier, 0, 4, now), None);
    assert_eq!(outlier.record(0, Outcome::Success, now), None);
    assert_eq!(fail(&outlier, 0, 4, now), None);
    let change = fail(&outlier, 0, 1, now).unwrap();
    assert_eq!(change, Change { slot: 0, to: Transition::Ejected(Cause::Consecutive5xx, 30 * S) });
    assert!(!outlier.is_available(0) && outlier.is_available(1));
}

#[test]
fn gateway_failures_have_a_count_of_their_own() {
    let now = Instant::now();
    let only_gateway = OutlierDetection { consecutive_5xx: None, consecutive_gateway_failure: Some(2), ..config() };
    let outlier = Outlier::new(only_gateway, endpoints(2), now);
    assert!(outlier.record(0, Outcome::GatewayFailure, now).is_none());
    assert!(outlier.record(0, Outcome::ServerError, now).is_none());
    assert!(outlier.record(0, Outcome::GatewayFailure, now).is_none());
    assert!(outlier.record(0, Outcome::GatewayFailure, now).is_some());
}

#[test]
fn each_ejection_in_a_row_is_longer_and_good_times_make_them_shorter_again() {
    let mut now = Instant::now();
    let outlier = Outlier::new(config(), endpoints(4), now);
    for n in 1..=12u32 {
        let change = fail(&outlier, 0, 5, now).unwrap();
        let length = (30 * S * n).min(300 * S);
        assert_eq!(change.to, Transition::Ejected(Cause::Consecutive5xx, length));
        now += length - S;
        assert!(outlier.sweep(now).is_empty());
        now += 10 * S;
        assert_eq!(outlier.sweep(now).as_slice(), [Change { slot: 0, to: Transition::Returned }]);
    }
    for _ in 0..20 {
        now += 10 * S;
        assert!(outlier.sweep(now).is_empty());
    }
    assert_eq!(fail(&outlier, 0, 5, now).unwrap().to, Transition::Ejected(Cause::Consecutive5xx, 30 * S));
}

#[test]
fn one_may_always_be_ejected_and_never_more_than_the_share() {
    let now = Instant::now();
    let single = Outlier::new(OutlierDetection { max_ejection_percent: 10, ..config() }, endpoints(1), now);
    assert!(fail(&single, 0, 5, now).is_some());
    assert!(single.is_open());
    let four = Outlier::new(config(), endpoints(4), now);
    let out = (0..4).filter(|slot| fail(&four, *slot, 20, now).is_some()).count();
    assert_eq!((out, four.ejected()), (2, 2));
}

#[test]
fn a_share_of_failures_ejects_at_the_end_of_the_interval() {
    let now = Instant::now();
    let share = FailurePercentage { threshold: 50, minimum_hosts: 3, request_volume: 10 };
    let by_share = OutlierDetection { consecutive_5xx: None, failure_percentage: Some(share), ..config() };
    let outlier = Outlier::new(by_share, endpoints(4), now);
    for slot in 0..3 {
        for i in 0..20 {
            let outcome = if slot == 1 && i % 2 == 0 { Outcome::ServerError } else { Outcome::Success };
            assert!(outlier.record(slot, outcome, now).is_none());
        }
    }
    // Too few requests to say anything.
    outlier.record(3, Outcome::ServerError, now);
    let changes = outlier.sweep(now + 10 * S);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].to, Transition::Ejected(Cause::FailurePercentage, 30 * S));
    assert_eq!(changes[0].slot, 1);
    // The counts start anew.
    assert!(outlier.sweep(now + 20 * S).is_empty());
}

#[test]
fn a_new_snapshot_takes_over_what_is_out_and_when_it_sweeps() {
    let start = Instant::now();
    let healths = endpoints(3);
    let mut outlier = Outlier::new(config(), healths.clone(), start);
    fail(&outlier, 0, 5, start);
    // A change of the configuration each second does not put the return off.
    for second in 1..40 {
        let now = start + S * second;
        outlier = Outlier::new(config(), healths.clone(), now).after(&outlier);
        outlier.check_invariants();
        outlier.sweep(now);
    }
    assert!(outlier.is_available(0));
}

#[test]
fn outcomes_follow_statuses_and_codes() {
    let of = |code| Outcome::of_grpc(GrpcCode::new(code).unwrap());
    assert_eq!(Outcome::of_status(http::StatusCode::SERVICE_UNAVAILABLE), Outcome::GatewayFailure);
    assert_eq!(Outcome::of_status(http::StatusCode::INTERNAL_SERVER_ERROR), Outcome::ServerError);
    assert_eq!(Outcome::of_status(http::StatusCode::TOO_MANY_REQUESTS), Outcome::Success);
    assert_eq!(
        (of(0), of(14), of(13), of(12)),
        (Outcome::Success, Outcome::GatewayFailure, Outcome::ServerError, Outcome::Success,)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn under_any_seed_the_limits_hold_and_every_endpoint_returns(
        seed: u64,
        n in 1usize..12,
        percent in 0u8..=100,
        with_share: bool,
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let share = FailurePercentage { threshold: 40, minimum_hosts: 1, request_volume: 5 };
        let cfg = OutlierDetection {
            max_ejection_percent: percent,
            failure_percentage: with_share.then_some(share),
            ..config()
        };
        let healths = endpoints(n);
        let mut now = Instant::now();
        let mut outlier = Outlier::new(cfg.clone(), healths.clone(), now);
        for _ in 0..2_000 {
            now += Duration::from_millis(rng.random_range(0..200));
            let slot = rng.random_range(0..n);
            let outcome = match rng.random_range(0..10) {
                0..4 => Outcome::GatewayFailure,
                4..6 => Outcome::ServerError,
                _ => Outcome::Success,
            };
            let before = outlier.generation();
            let changed = outlier.record(slot, outcome, now).is_some() | !outlier.sweep(now).is_empty();
            prop_assert_eq!(changed, outlier.generation() != before);
            if rng.random_range(0..100) == 0 {
                outlier = Outlier::new(cfg.clone(), healths.clone(), now).after(&outlier);
            }
            outlier.check_invariants();
        }
        // Left alone, all come back.
        for _ in 0..2 {
            now += 310 * S;
            outlier.sweep(now);
        }
        prop_assert_eq!(outlier.ejected(), 0);
    }
}
