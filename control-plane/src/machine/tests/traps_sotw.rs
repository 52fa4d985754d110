//! Traps of the state-of-the-world protocol.

use super::*;

fn settled(kinds: &[(Kind, &[&str])]) -> (Bench, BTreeMap<Kind, String>) {
    let mut bench = Bench::new(Protocol::Sotw);
    bench.view.service("a", "1");
    bench.view.service("b", "1");
    let mut nonces = BTreeMap::new();
    for (kind, names) in kinds {
        let pushes = bench.ask(*kind, sotw(names, ""));
        for push in pushes {
            assert!(bench.ask(*kind, sotw(names, &push.nonce)).is_empty());
            nonces.insert(*kind, push.nonce);
        }
    }
    (bench, nonces)
}

#[test]
fn trap_13_the_wildcard_of_the_first_request_ends_with_the_first_name() {
    let (mut bench, nonces) = settled(&[(Kind::Cluster, &[])]);
    assert_eq!(bench.machine.standing(Kind::Cluster).held, 2);
    let pushes = bench.ask(Kind::Cluster, sotw(&["*", "a"], &nonces[&Kind::Cluster]));
    assert_eq!(told(&pushes), ["cluster: +a@1 +b@1"], "wildcard and names coexist");
    assert!(bench.ask(Kind::Cluster, sotw(&["a"], &pushes[0].nonce)).is_empty());
    assert!(bench.next(|v| v.service("b", "2")).is_empty(), "only a is left");
    // Empty now means nothing, though it looks like the first request.
    assert!(bench.ask(Kind::Cluster, sotw(&[], &pushes[0].nonce)).is_empty());
    assert!(bench.next(|v| v.service("a", "2")).is_empty());
}

#[test]
fn trap_13_empty_requests_for_endpoints_and_routes_are_no_wildcard() {
    let mut bench = Bench::new(Protocol::Sotw);
    bench.view.service("a", "1");
    assert!(bench.ask(Kind::Endpoints, sotw(&[], "")).is_empty());
    assert!(bench.ask(Kind::Route, sotw(&[], "")).is_empty());
}

#[test]
fn trap_11_listeners_and_clusters_are_sent_whole_also_when_asked_for_by_name() {
    let (mut bench, nonces) = settled(&[(Kind::Listener, &["a"])]);
    let pushes = bench.ask(Kind::Listener, sotw(&["a", "b"], &nonces[&Kind::Listener]));
    assert_eq!(told(&pushes), ["listener: +a@l1 +b@l1"]);
    bench.ask(Kind::Listener, sotw(&["a", "b"], &pushes[0].nonce));
    let pushes = bench.next(|v| v.set(Kind::Listener, "b", "l2", &[(Kind::Route, "b")]));
    assert_eq!(told(&pushes), ["listener: +a@l1 +b@l2"]);
}

#[test]
fn trap_9_names_that_shrink_and_grow_again_are_answered_again() {
    let (mut bench, nonces) = settled(&[(Kind::Endpoints, &["a", "b"])]);
    let nonce = &nonces[&Kind::Endpoints];
    assert!(bench.ask(Kind::Endpoints, sotw(&["a"], nonce)).is_empty());
    assert_eq!(told(&bench.ask(Kind::Endpoints, sotw(&["a", "b"], nonce))), ["endpoints: +b@e1"]);
}

#[test]
fn trap_10_clusters_go_by_omission_and_endpoints_do_not() {
    let (mut bench, nonces) = settled(&[(Kind::Cluster, &[]), (Kind::Endpoints, &["a", "b"])]);
    let pushes = bench.next(|v| {
        v.remove(Kind::Cluster, "b");
        v.remove(Kind::Endpoints, "b");
    });
    assert_eq!(told(&pushes), ["cluster: +a@1"]);
    assert!(bench.ask(Kind::Cluster, sotw(&[], &pushes[0].nonce)).is_empty(), "nothing is said of the endpoints");
    assert!(bench.ask(Kind::Endpoints, sotw(&["a"], &nonces[&Kind::Endpoints])).is_empty());
    assert_eq!(bench.machine.behind_since(), None);
    let pushes = bench.next(|v| v.remove(Kind::Cluster, "a"));
    assert_eq!(told(&pushes), ["cluster:"], "an empty response removes all");
}

#[test]
fn trap_10_and_12_nothing_is_said_of_what_does_not_exist_until_it_does() {
    let mut bench = Bench::new(Protocol::Sotw);
    assert!(bench.ask(Kind::Route, sotw(&["a"], "")).is_empty());
    assert_eq!(told(&bench.ask(Kind::Listener, sotw(&["a"], ""))), ["listener:"], "listeners: the whole set, empty");
    let pushes = bench.next(|v| v.set(Kind::Route, "a", "1", &[]));
    assert_eq!(told(&pushes), ["route: +a@1"]);
}

#[test]
fn trap_1_the_repeated_endpoints_request_is_no_new_subscription() {
    let (mut bench, nonces) = settled(&[(Kind::Cluster, &[]), (Kind::Endpoints, &["a", "b"])]);
    let pushes = bench.next(|v| v.set(Kind::Cluster, "a", "2", &[(Kind::Endpoints, "a")]));
    assert_eq!(told(&pushes), ["cluster: +a@2 +b@1", "endpoints: +a@e1"]);
    // Envoy says its endpoints again with the old nonce, when it sees the cluster.
    assert!(bench.ask(Kind::Endpoints, sotw(&["a", "b"], &nonces[&Kind::Endpoints])).is_empty());
    assert!(bench.ask(Kind::Endpoints, sotw(&["a", "b"], &pushes[1].nonce)).is_empty());
    assert!(bench.ask(Kind::Cluster, sotw(&[], &pushes[0].nonce)).is_empty());
    assert_eq!(bench.machine.behind_since(), None);
}

#[test]
fn trap_8_names_of_a_stale_request_wait_for_the_one_with_the_right_nonce() {
    let (mut bench, nonces) = settled(&[(Kind::Endpoints, &["a"])]);
    let pushes = bench.next(|v| v.set(Kind::Endpoints, "a", "e2", &[]));
    assert!(bench.ask(Kind::Endpoints, sotw(&["a", "b"], &nonces[&Kind::Endpoints])).is_empty());
    assert_eq!(told(&bench.ask(Kind::Endpoints, sotw(&["a", "b"], &pushes[0].nonce))), ["endpoints: +b@e1"]);
}

#[test]
fn trap_3_old_and_new_clusters_are_sent_together_until_the_route_has_moved() {
    let (mut bench, nonces) = settled(&[
        (Kind::Cluster, &[]),
        (Kind::Endpoints, &["a", "b"]),
        (Kind::Listener, &[]),
        (Kind::Route, &["a", "b"]),
    ]);
    let cluster = bench.next(|v| {
        v.set(Kind::Cluster, "c", "1", &[(Kind::Endpoints, "c")]);
        v.set(Kind::Endpoints, "c", "e1", &[]);
        v.set(Kind::Route, "a", "2", &[(Kind::Cluster, "c")]);
        v.remove(Kind::Cluster, "a");
    });
    assert_eq!(told(&cluster), ["cluster: +a@1 +b@1 +c@1"]);
    let endpoints = bench.ask(Kind::Endpoints, sotw(&["a", "b", "c"], &nonces[&Kind::Endpoints]));
    assert_eq!(told(&endpoints), ["endpoints: +c@e1"]);
    assert!(bench.ask(Kind::Endpoints, sotw(&["a", "b", "c"], &endpoints[0].nonce)).is_empty());
    let route = bench.ask(Kind::Cluster, sotw(&[], &cluster[0].nonce));
    assert_eq!(told(&route), ["route: +a@2"]);
    let removal = bench.ask(Kind::Route, sotw(&["a", "b"], &route[0].nonce));
    assert_eq!(told(&removal), ["cluster: +b@1 +c@1"]);
}

#[test]
fn trap_7_a_refusal_has_the_old_version_and_an_error() {
    let (mut bench, _) = settled(&[(Kind::Cluster, &[])]);
    let pushes = bench.next(|v| v.service("a", "2"));
    let request = Request { error: Some("a: no".into()), ..sotw(&[], &pushes[0].nonce) };
    let Verdict::Refused(refusal) = bench.machine.request(Kind::Cluster, request).unwrap() else { panic!() };
    assert_eq!((refusal.names, refusal.since), (vec!["a".into()], Some(2)));
    assert!(bench.poll().is_empty());
}

#[test]
fn trap_15_versions_are_equal_on_all_replicas() {
    let versions = || {
        let mut bench = Bench::new(Protocol::Sotw);
        bench.view.service("a", "1");
        bench.ask(Kind::Cluster, sotw(&[], ""))[0].version.clone()
    };
    assert_eq!(versions(), versions());
}
