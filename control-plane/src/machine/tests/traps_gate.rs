//! Traps of order: warming clusters, make before break, and what must not be gated.

use super::*;

#[test]
fn trap_1_a_changed_cluster_is_followed_by_its_unchanged_endpoints() {
    let mut bench = Bench::envoy();
    let pushes = bench.next(|v| v.set(Kind::Cluster, "a", "2", &[(Kind::Endpoints, "a")]));
    assert_eq!(told(&pushes), ["cluster: +a@2", "endpoints: +a@e1"]);
    assert!(bench.concerned);
    // The client withholds its verdict on the cluster until it has the endpoints: nothing may wait for it.
    bench.ack(&pushes[1]);
    assert_eq!(bench.machine.behind_since(), Some(2));
    bench.ack(&pushes[0]);
    assert_eq!(bench.machine.behind_since(), None);
}

#[test]
fn trap_2_a_new_cluster_that_shares_endpoints_gets_them_again() {
    let mut bench = Bench::envoy();
    let pushes = bench.next(|v| v.set(Kind::Cluster, "twin", "1", &[(Kind::Endpoints, "a")]));
    assert_eq!(told(&pushes), ["cluster: +twin@1", "endpoints: +a@e1"]);
}

#[test]
fn trap_3_make_before_break_waits_for_acknowledgements() {
    let mut bench = Bench::envoy();
    // Route `a` moves from cluster `a` to the new cluster `c`, and `a` goes.
    let cluster = bench.next(|v| {
        v.set(Kind::Cluster, "c", "1", &[(Kind::Endpoints, "c")]);
        v.set(Kind::Endpoints, "c", "e1", &[]);
        v.set(Kind::Route, "a", "2", &[(Kind::Cluster, "c")]);
        v.remove(Kind::Cluster, "a");
        v.remove(Kind::Endpoints, "a");
    });
    assert_eq!(told(&cluster), ["cluster: +c@1"]);
    // The answer to its endpoints is not held back, and the route still is.
    let endpoints = bench.subscribe(Kind::Endpoints, &["c"]);
    assert_eq!(told(&endpoints), ["endpoints: +c@e1"]);
    assert!(bench.ack(&endpoints[0]).is_empty());
    let route = bench.ack(&cluster[0]);
    assert_eq!(told(&route), ["route: +a@2"]);
    // Only when the route has landed does the old cluster go, and then its endpoints.
    let removal = bench.ack(&route[0]);
    assert_eq!(told(&removal), ["cluster: -a"]);
    assert_eq!(bench.machine.behind_since(), Some(2));
    let last = bench.ack(&removal[0]);
    assert_eq!(told(&last), ["endpoints: -a"]);
    bench.ack(&last[0]);
    assert_eq!(bench.machine.behind_since(), None);
}

#[test]
fn trap_3_a_listener_that_leads_to_a_new_route_waits_for_that_routes_clusters() {
    let mut bench = Bench::envoy();
    let cluster = bench.next(|v| {
        v.service("c", "1");
        v.remove(Kind::Listener, "c");
        v.set(Kind::Listener, "a", "l2", &[(Kind::Route, "c")]);
    });
    assert_eq!(told(&cluster), ["cluster: +c@1"]);
    assert_eq!(told(&bench.ack(&cluster[0])), ["listener: +a@l2"]);
}

#[test]
fn trap_4_answers_to_subscriptions_are_never_held_back() {
    let mut bench = Bench::envoy();
    let pushes = bench.next(|v| v.service("c", "1"));
    assert_eq!(told(&pushes), ["cluster: +c@1"], "the listener waits");
    for (kind, answer) in [(Kind::Endpoints, "endpoints: +c@e1"), (Kind::Route, "route: +c@1")] {
        assert_eq!(told(&bench.subscribe(kind, &["c"])), [answer]);
    }
    // While none of the three is acknowledged.
    assert_eq!(told(&bench.subscribe(Kind::Endpoints, &["ghost"])), ["endpoints: -ghost"]);
}

#[test]
fn trap_4_an_answer_takes_the_clusters_that_it_names_along() {
    let mut bench = Bench::envoy();
    let first = bench.next(|v| v.set(Kind::Cluster, "a", "2", &[(Kind::Endpoints, "a")]));
    assert_eq!(told(&first), ["cluster: +a@2", "endpoints: +a@e1"]);
    // Clusters are under way, so a new one would wait; but a route that names it is asked for.
    assert!(bench.next(|v| v.service("c", "1")).is_empty());
    assert_eq!(told(&bench.subscribe(Kind::Route, &["c"])), ["cluster: +c@1", "route: +c@1"]);
}

#[test]
fn trap_6_a_route_does_not_move_to_a_cluster_that_was_refused() {
    let mut bench = Bench::envoy();
    let cluster = bench.next(|v| {
        v.service("c", "1");
        v.set(Kind::Route, "a", "2", &[(Kind::Cluster, "c")]);
        v.set(Kind::Route, "b", "2", &[(Kind::Cluster, "b")]);
    });
    assert_eq!(told(&cluster), ["cluster: +c@1", "route: +b@2"], "what does not need the cluster does not wait");
    bench.ack(&cluster[1]);
    assert!(bench.nack(&cluster[0], "c: no").is_empty());
    let better = bench.next(|v| v.set(Kind::Cluster, "c", "2", &[(Kind::Endpoints, "c")]));
    assert_eq!(told(&better), ["cluster: +c@2"]);
    let endpoints = bench.subscribe(Kind::Endpoints, &["c"]);
    bench.ack(&endpoints[0]);
    let moved = told(&bench.ack(&better[0]));
    assert!(moved.contains(&"route: +a@2".into()), "{moved:?}");
}

#[test]
fn trap_6_a_refused_change_of_a_cluster_does_not_stop_its_routes() {
    let mut bench = Bench::envoy();
    let pushes = bench.next(|v| v.service("a", "2"));
    assert_eq!(told(&pushes), ["cluster: +a@2", "endpoints: +a@e1"]);
    bench.ack(&pushes[1]);
    assert_eq!(told(&bench.nack(&pushes[0], "a: no")), ["route: +a@2"]);
}

#[test]
fn a_cluster_stays_while_the_client_refuses_to_let_its_route_go() {
    let mut bench = Bench::envoy();
    let route = bench.next(|v| {
        v.set(Kind::Route, "a", "2", &[(Kind::Cluster, "b")]);
        v.remove(Kind::Cluster, "a");
    });
    assert_eq!(told(&route), ["route: +a@2"]);
    assert!(bench.nack(&route[0], "a: no").is_empty(), "it still routes to cluster a");
    let route = bench.next(|v| v.set(Kind::Route, "a", "3", &[(Kind::Cluster, "b")]));
    assert_eq!(told(&bench.settle(route)), ["route: +a@3", "cluster: -a"]);
}

#[test]
fn trap_5_a_route_to_a_cluster_that_does_not_exist_waits_for_nothing() {
    let mut bench = Bench::envoy();
    let route = bench.next(|v| v.set(Kind::Route, "a", "2", &[(Kind::Cluster, "ghost")]));
    assert_eq!(told(&route), ["route: +a@2"]);
}

#[test]
fn on_demand_clients_are_not_held_back_for_what_they_have_not_asked_for() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.view.service("a", "1");
    let mut pushes = Vec::new();
    for kind in [Kind::Listener, Kind::Route, Kind::Cluster, Kind::Endpoints] {
        pushes.extend(bench.subscribe(kind, &["a"]));
    }
    bench.settle(pushes);
    let route = bench.next(|v| {
        v.service("b", "1");
        v.set(Kind::Route, "a", "2", &[(Kind::Cluster, "b")]);
    });
    assert_eq!(told(&route), ["route: +a@2"], "the client sees the new name, asks for it and waits by itself");
}

#[test]
fn a_service_leaves_from_the_top_down() {
    let mut bench = Bench::envoy();
    let pushes = bench.next(|v| {
        for kind in Kind::ALL {
            v.remove(kind, "a");
        }
    });
    let order = bench.settle(pushes);
    assert_eq!(told(&order), ["listener: -a", "route: -a", "cluster: -a", "endpoints: -a"]);
}

#[test]
fn a_burst_of_changes_reaches_a_slow_client_as_one() {
    let mut bench = Bench::envoy();
    let first = bench.next(|v| v.set(Kind::Endpoints, "a", "e2", &[]));
    assert_eq!(told(&first), ["endpoints: +a@e2"]);
    for version in ["e3", "e4", "e5"] {
        assert!(bench.next(|v| v.set(Kind::Endpoints, "a", version, &[])).is_empty());
    }
    assert_eq!(told(&bench.ack(&first[0])), ["endpoints: +a@e5"]);
    assert_eq!(bench.machine.behind_since(), Some(3));
}

#[test]
fn a_change_that_is_taken_back_is_not_sent() {
    let mut bench = Bench::envoy();
    let first = bench.next(|v| v.set(Kind::Endpoints, "a", "e2", &[]));
    bench.next(|v| v.set(Kind::Endpoints, "b", "e2", &[]));
    assert!(bench.concerned);
    bench.next(|v| v.set(Kind::Endpoints, "b", "e1", &[]));
    assert!(bench.ack(&first[0]).is_empty());
    assert_eq!(bench.machine.behind_since(), None);
    bench.world += 1;
    bench.poll();
    assert!(!bench.concerned, "a world in which nothing changed for this client");
}
