//! Changes, who they concern, and what became of them.

use super::*;
use std::time::Duration;

pub(crate) fn who(node: &str) -> Who {
    Who {
        node: node.into(),
        identity: "spiffe://weir.local/ns/demo/sa/web".into(),
        address: None,
        version: "0.1.0".into(),
        agent: "weir".into(),
        protocol: "delta",
    }
}

fn standings() -> [(Kind, Standing); 5] {
    Kind::ALL.map(|kind| (kind, Standing::default()))
}

fn fleet() -> Arc<Fleet> {
    let fleet = Fleet::new(Metrics::default());
    fleet.changed(1);
    fleet
}

#[test]
fn a_change_is_complete_when_all_it_concerns_have_settled_it() {
    let fleet = fleet();
    let seats: Vec<Seat> = ["demo/a", "demo/b", "demo/c"].iter().map(|n| fleet.connect(who(n))).collect();
    for seat in &seats {
        seat.looked(1, false);
    }
    assert!(fleet.change(1).unwrap().complete);
    fleet.changed(2);
    assert!(!fleet.change(2).unwrap().complete, "nobody has looked at it yet");
    for (seat, concerned) in seats.iter().zip([true, true, false]) {
        seat.looked(2, concerned);
        seat.progress(concerned.then_some(2), standings());
    }
    let status = fleet.change(2).unwrap();
    assert_eq!((status.concerned, status.applied, status.refused, status.complete), (2, 0, 0, false));
    seats[0].progress(None, standings());
    let refusal =
        Refusal { kind: Kind::Cluster, names: vec!["x".into()], message: "no".into(), since: Some(2), world: 2 };
    seats[1].refused(&refusal);
    seats[1].progress(None, standings());
    let status = fleet.change(2).unwrap();
    assert_eq!((status.concerned, status.applied, status.refused, status.complete), (2, 1, 1, true));
    assert!(status.p50.is_some() && status.p50 <= status.p99);
    let proxies = fleet.proxies();
    assert_eq!(proxies[1].last_refusal.as_ref().unwrap().message, "no");
}

#[test]
fn changes_of_a_burst_are_settled_together_and_each_in_turn() {
    let fleet = fleet();
    let seat = fleet.connect(who("demo/a"));
    seat.looked(1, false);
    for version in 2..=4 {
        fleet.changed(version);
    }
    seat.looked(4, true);
    seat.progress(Some(4), standings());
    assert!(fleet.change(2).unwrap().complete && fleet.change(3).unwrap().complete);
    assert!(!fleet.change(4).unwrap().complete);
    assert_eq!(fleet.proxies()[0].applied_version, 3);
    seat.progress(None, standings());
    assert_eq!(fleet.change(4).unwrap().applied, 1);
    assert_eq!(fleet.proxies()[0].applied_version, 4);
}

#[test]
fn a_proxy_that_leaves_is_waited_for_no_longer_and_remembered() {
    let fleet = fleet();
    let seat = fleet.connect(who("demo/a"));
    fleet.changed(2);
    seat.looked(2, true);
    assert!(!fleet.change(2).unwrap().complete);
    drop(seat);
    let status = fleet.change(2).unwrap();
    assert!(status.complete && status.concerned == 0);
    let proxies = fleet.proxies();
    assert!(!proxies[0].connected);
    let _again = fleet.connect(who("demo/a"));
    assert_eq!(fleet.proxies().len(), 1);
}

#[test]
fn a_version_that_was_overtaken_is_answered_for_by_the_next() {
    let fleet = fleet();
    fleet.changed(5);
    assert_eq!(fleet.change(3).unwrap().version, 5);
    assert_eq!(fleet.change(6), None);
    fleet.changed(4);
    assert_eq!(fleet.changes().iter().map(|c| c.version).collect::<Vec<_>>(), [5, 1]);
}

#[test]
fn only_the_last_thousand_changes_are_kept() {
    let fleet = fleet();
    for version in 2..=1_500 {
        fleet.changed(version);
    }
    assert_eq!(fleet.changes().len(), 1_000);
    assert_eq!(fleet.change(400), None);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_change_or_with_the_time() {
    let fleet = fleet();
    let seat = fleet.connect(who("demo/a"));
    fleet.changed(2);
    let waited = fleet.wait(2, Duration::from_secs(5)).await;
    assert!(!waited.unwrap().complete);
    let waiting = tokio::spawn({
        let fleet = Arc::clone(&fleet);
        async move { fleet.wait(2, Duration::from_secs(5)).await }
    });
    seat.looked(2, false);
    assert!(waiting.await.unwrap().unwrap().complete);
}
