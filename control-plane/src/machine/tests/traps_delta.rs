//! Traps of subscriptions, nonces and removal, in delta.

use super::*;

#[test]
fn trap_13_an_empty_first_request_is_a_wildcard_for_clusters_and_listeners_only() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    assert_eq!(told(&bench.subscribe(Kind::Cluster, &[])), ["cluster: +a@1"]);
    assert_eq!(told(&bench.subscribe(Kind::Listener, &[])), ["listener: +a@l1"]);
    assert!(bench.subscribe(Kind::Endpoints, &[]).is_empty());
    assert!(bench.subscribe(Kind::Route, &[]).is_empty());
}

#[test]
fn trap_13_wildcard_and_names_coexist() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    let first = bench.subscribe(Kind::Cluster, &[]);
    bench.settle(first);
    // A name added to a wildcard does not end it, and an empty later request is no news.
    assert_eq!(told(&bench.subscribe(Kind::Cluster, &["ghost"])), ["cluster: -ghost"]);
    let pushes = bench.next(|v| v.service("b", "1"));
    assert!(pushes.is_empty(), "the answer is not yet acknowledged");
    let nonce = "2";
    assert_eq!(told(&bench.ask(Kind::Cluster, delta(&[], &[], nonce))), ["cluster: +b@1"]);
    // Without the wildcard only the names stay.
    bench.ask(Kind::Cluster, delta(&[], &["*"], "3"));
    assert!(bench.next(|v| v.service("c", "1")).is_empty());
    assert_eq!(told(&bench.next(|v| v.set(Kind::Cluster, "ghost", "1", &[]))), ["cluster: +ghost@1"]);
}

#[test]
fn trap_22_subscribing_and_unsubscribing_everything_at_once_subscribes_to_nothing() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    assert!(bench.ask(Kind::Cluster, delta(&["*"], &["*"], "")).is_empty());
    assert!(bench.next(|v| v.service("a", "2")).is_empty());
    assert!(!bench.concerned);
}

#[test]
fn trap_9_each_subscription_is_answered_though_nothing_changed() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    let first = bench.subscribe(Kind::Endpoints, &["a"]);
    bench.settle(first);
    assert!(bench.ask(Kind::Endpoints, delta(&[], &["a"], "")).is_empty());
    assert_eq!(told(&bench.subscribe(Kind::Endpoints, &["a"])), ["endpoints: +a@e1"]);
    assert_eq!(told(&bench.subscribe(Kind::Endpoints, &["a"])), ["endpoints: +a@e1"], "also without unsubscribing");
}

#[test]
fn trap_12_and_14_an_unknown_name_is_answered_with_its_removal_at_once() {
    let mut bench = Bench::new(Protocol::Delta);
    for kind in [Kind::Listener, Kind::Endpoints, Kind::Route, Kind::Cluster] {
        assert_eq!(told(&bench.subscribe(kind, &["ghost"])), [format!("{}: -ghost", kind.as_str())]);
    }
}

#[test]
fn trap_12_a_wildcard_over_nothing_is_answered() {
    let mut bench = Bench::new(Protocol::Delta);
    assert_eq!(told(&bench.subscribe(Kind::Cluster, &[])), ["cluster:"]);
    assert_eq!(told(&bench.subscribe(Kind::Listener, &["*"])), ["listener:"]);
}

#[test]
fn trap_10_what_appears_later_and_what_is_removed_is_sent_while_the_subscription_stays() {
    let mut bench = Bench::new(Protocol::Delta);
    let ghost = bench.subscribe(Kind::Listener, &["a"]);
    bench.settle(ghost);
    let pushes = bench.next(|v| v.service("a", "1"));
    assert_eq!(told(&pushes), ["listener: +a@l1"]);
    bench.settle(pushes);
    let pushes = bench.next(|v| v.remove(Kind::Listener, "a"));
    assert_eq!(told(&pushes), ["listener: -a"]);
    bench.settle(pushes);
    assert_eq!(told(&bench.next(|v| v.service("a", "1"))), ["listener: +a@l1"]);
}

#[test]
fn trap_17_a_ghost_does_not_block_what_exists() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    assert_eq!(told(&bench.subscribe(Kind::Endpoints, &["ghost", "a"])), ["endpoints: +a@e1 -ghost"]);
}

#[test]
fn trap_8_a_stale_nonce_still_changes_subscriptions() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    bench.view.service("b", "1");
    bench.subscribe(Kind::Endpoints, &["a"]);
    let pushes = bench.ask(Kind::Endpoints, delta(&["b"], &[], "777"));
    assert_eq!(told(&pushes), ["endpoints: +b@e1"]);
    assert_eq!(bench.machine.standing(Kind::Endpoints).in_flight, 2, "and acknowledges nothing");
    // Nonces are for each kind: that of another is stale too.
    bench.subscribe(Kind::Cluster, &["a"]);
    bench.ask(Kind::Cluster, delta(&[], &[], "1"));
    assert_eq!(bench.machine.standing(Kind::Cluster).in_flight, 1);
}

#[test]
fn trap_7_a_refusal_is_told_by_its_error_and_not_sent_again_until_it_changes() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    let pushes = bench.subscribe(Kind::Cluster, &["a"]);
    assert!(bench.nack(&pushes[0], "a: bad field").is_empty());
    let standing = bench.machine.standing(Kind::Cluster);
    assert_eq!(standing.refused, [("a".into(), "a: bad field".into())]);
    bench.world += 1;
    assert!(bench.poll().is_empty());
    assert_eq!(told(&bench.next(|v| v.service("a", "2"))), ["cluster: +a@2"]);
}

#[test]
fn trap_6_a_refusal_is_kept_for_the_resources_that_it_names() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("web:80", "1");
    bench.view.service("web:8080", "1");
    let pushes = bench.subscribe(Kind::Cluster, &["web:80", "web:8080"]);
    let request = Request {
        error: Some("Error adding/updating cluster(s) web:80: unknown policy".into()),
        ..delta(&[], &[], &pushes[0].nonce)
    };
    let Verdict::Refused(refusal) = bench.machine.request(Kind::Cluster, request).unwrap() else { panic!() };
    assert_eq!(refusal.names, ["web:80".into()], "the longer name is not meant");
    assert_eq!(bench.machine.standing(Kind::Cluster).refused.len(), 1);
}

#[test]
fn trap_15_a_reconnect_is_sent_only_what_changed() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "2");
    bench.view.service("b", "1");
    let pushes = bench.ask(Kind::Cluster, reconnect(&["a", "b", "c"], &[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!(told(&pushes), ["cluster: +a@2 -c"]);
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "2");
    bench.view.service("b", "1");
    let pushes = bench.ask(Kind::Cluster, reconnect(&["*"], &[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!(told(&pushes), ["cluster: +a@2 -c"]);
}

#[test]
fn trap_3_on_a_reconnect_a_cluster_stays_until_the_old_route_is_replaced() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "2");
    // Both are there before the first look. Of the old route only the version is known: it may name anything.
    bench.machine.request(Kind::Cluster, reconnect(&["*"], &[("a", "2"), ("old", "1")])).unwrap();
    let pushes = bench.ask(Kind::Route, reconnect(&["a"], &[("a", "1")]));
    assert_eq!(told(&pushes), ["cluster:", "route: +a@2"]);
    assert!(bench.ack(&pushes[0]).is_empty());
    assert_eq!(told(&bench.ack(&pushes[1])), ["cluster: -old"]);
}

#[test]
fn trap_1_on_a_reconnect_the_endpoints_of_a_changed_cluster_are_sent_though_the_client_holds_them() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "2");
    bench.ask(Kind::Cluster, reconnect(&["*"], &[("a", "1")]));
    let pushes = bench.ask(Kind::Endpoints, reconnect(&["a"], &[("a", "e1")]));
    assert_eq!(told(&pushes), ["endpoints: +a@e1"]);
    // The other order, and both before the first look.
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "2");
    bench.machine.request(Kind::Endpoints, reconnect(&["a"], &[("a", "e1")])).unwrap();
    let pushes = bench.ask(Kind::Cluster, reconnect(&["*"], &[("a", "1")]));
    assert_eq!(told(&pushes), ["cluster: +a@2", "endpoints: +a@e1"]);
}

#[test]
fn a_large_answer_travels_in_parts() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.machine = Machine::new(Protocol::Delta, Limits { response_bytes: 300, ..Limits::default() });
    for i in 0..5 {
        bench.view.service(&format!("s{i}"), "1");
    }
    let pushes = bench.subscribe(Kind::Cluster, &["*"]);
    assert_eq!(told(&pushes), ["cluster: +s0@1 +s1@1", "cluster: +s2@1 +s3@1", "cluster: +s4@1"]);
    bench.settle(pushes);
    assert_eq!(bench.machine.standing(Kind::Cluster).in_flight, 0);
}

#[test]
fn more_names_than_allowed_are_refused() {
    let limits = Limits { names: 2, name_bytes: 8, ..Limits::default() };
    let mut machine = Machine::new(Protocol::Delta, limits);
    machine.request(Kind::Cluster, delta(&["a", "b"], &[], "")).unwrap();
    let refused = machine.request(Kind::Endpoints, delta(&["a"], &[], ""));
    assert_eq!(refused, Err(Violation::TooManyNames(2)));
    let refused = machine.request(Kind::Cluster, delta(&["a-long-name"], &[], ""));
    assert_eq!(refused, Err(Violation::LongName(11, 8)));
    assert_eq!(machine.request(Kind::Cluster, sotw(&[], "")), Err(Violation::WrongProtocol));
}
