//! Who is near: zones, nodes, hints, and what callers at the same place have in common.

use super::{node, world};
use crate::compile::{self, Scope};
use weir_config::model::Kind;

const NEAR: &str = "near.demo.svc.cluster.local:80";

/// Instances of `near` in three places, and callers there; `{}`: what the service says more.
const PLACES: &str = "
apiVersion: v1
kind: Service
metadata: {name: near, namespace: demo}
spec: {selector: {app: near}, ports: [{port: 80}], {}}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: in-a, namespace: demo}
spec: {address: 10.1.0.1, zone: a, node: a1}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: in-b, namespace: demo}
spec: {address: 10.1.0.2, zone: b, node: b2}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: in-c, namespace: demo}
spec: {address: 10.1.0.3, zone: c, node: c1}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: somewhere, namespace: demo}
spec: {address: 10.1.0.4}
";

fn service(more: &str) -> String {
    PLACES.replace("{}", more)
}

/// An instance; `hints` as in a document.
fn instance(name: &str, last: u8, place: &str, more: &str) -> String {
    format!(
        "{{apiVersion: weir.dev/v1alpha1, kind: Workload, metadata: {{name: {name}, namespace: demo, labels: {{app: near}}}}, \
         spec: {{address: 10.2.0.{last}, {place}, {more}}}}}"
    )
}

fn hint(zones: &str, nodes: &str) -> String {
    format!("hints: [{{service: other, zones: [x]}}, {{service: near, zones: [{zones}], nodes: [{nodes}]}}]")
}

/// The instances of each priority, for the caller of this name.
fn order(texts: &[&str], caller: &str) -> Vec<Vec<String>> {
    let world = world(texts);
    let found = compile::endpoints(&world, &node("demo", caller), NEAR).unwrap();
    let mut levels: Vec<Vec<String>> = Vec::new();
    for locality in &found.localities {
        levels.resize(levels.len().max(locality.priority as usize + 1), Vec::new());
        let names = locality.endpoints.iter().map(|e| e.workload.trim_start_matches("demo/").to_owned());
        levels[locality.priority as usize].extend(names);
    }
    levels.iter_mut().for_each(|level| level.sort());
    levels
}

fn levels(of: &[&[&str]]) -> Vec<Vec<String>> {
    of.iter().map(|level| level.iter().map(|&name| name.to_owned()).collect()).collect()
}

/// `a1`, `a2` in zone a on nodes of their names, `b1` in b.
fn three(more: [&str; 3]) -> [String; 3] {
    [
        instance("a1", 1, "zone: a, node: a1", more[0]),
        instance("a2", 2, "zone: a, node: a2", more[1]),
        instance("b1", 3, "zone: b, node: b1", more[2]),
    ]
}

#[test]
fn the_callers_zone_or_node_is_asked_first_where_the_service_says_so() {
    let three = three([""; 3]);
    let order = |says: &str, caller| order(&[&service(says), &three[0], &three[1], &three[2]], caller);
    let all = levels(&[&["a1", "a2", "b1"]]);
    assert_eq!(order("", "in-a"), all);
    for says in ["trafficDistribution: PreferSameZone", "trafficDistribution: PreferClose"] {
        assert_eq!(order(says, "in-a"), levels(&[&["a1", "a2"], &["b1"]]), "{says}");
        assert_eq!(order(says, "in-b"), levels(&[&["b1"], &["a1", "a2"]]), "{says}");
        // Nobody is there, or it is not known where that is.
        assert_eq!((order(says, "in-c"), order(says, "somewhere")), (all.clone(), all.clone()), "{says}");
    }
    let says = "trafficDistribution: PreferSameNode";
    assert_eq!(order(says, "in-a"), levels(&[&["a1"], &["a2"], &["b1"]]));
    assert_eq!(order(says, "in-b"), levels(&[&["b1"], &["a1", "a2"]]), "none on its node, but one in its zone");
    assert_eq!(order(says, "in-c"), all);
}

#[test]
fn who_gets_nothing_is_no_neighbour() {
    let says = service("trafficDistribution: PreferSameZone");
    let [a1, a2, b1] = three(["health: Draining", "health: Unhealthy", ""]);
    assert_eq!(order(&[&says, &a1, &a2, &b1], "in-a"), levels(&[&["a1", "a2", "b1"]]), "nobody near takes requests");
    let [_, a2, _] = three([""; 3]);
    assert_eq!(order(&[&says, &a1, &a2, &b1], "in-a"), levels(&[&["a2"], &["a1", "b1"]]), "who ends counts for nobody");
    let [a1, ..] = three(["health: Unhealthy", "", ""]);
    let failing = order(&[&says, &a1, &a2, &b1], "in-a");
    assert_eq!(failing, levels(&[&["a1", "a2"], &["b1"]]), "who should be there says how much those near can take");
}

#[test]
fn hints_go_before_where_instances_are() {
    let says = service("trafficDistribution: PreferSameZone");
    let order = |says: &str, hints: [&str; 3], caller| {
        let three = three(hints);
        order(&[says, &three[0], &three[1], &three[2]], caller)
    };
    let [a, b, ab] = [hint("a", ""), hint("b", ""), hint("a, b", "")];
    // a2 is lent to zone b.
    for says in [&says, &service("")] {
        assert_eq!(order(says, [&a, &b, &b], "in-a"), levels(&[&["a1"], &["a2", "b1"]]));
        assert_eq!(order(says, [&a, &b, &b], "in-b"), levels(&[&["a2", "b1"], &["a1"]]));
        assert_eq!(order(says, [&a, &ab, &b], "in-b"), levels(&[&["a2", "b1"], &["a1"]]));
        assert_eq!(order(says, [&a, &b, &b], "in-c"), levels(&[&["a1", "a2", "b1"]]), "nobody is meant for it");
    }
    // One of those that take requests has none: hints say nothing.
    let all = levels(&[&["a1", "a2", "b1"]]);
    assert_eq!(order(&service(""), [&a, "", &b], "in-a"), all);
    assert_eq!(order(&says, [&a, "", &b], "in-a"), levels(&[&["a1", "a2"], &["b1"]]), "but the service does");
    let gone = format!("{a}, health: Draining");
    assert_eq!(order(&service(""), [&gone, &b, &b], "in-a"), all, "nobody who takes requests is meant for it");
    let without = "health: Unhealthy";
    assert_eq!(
        order(&service(""), [&a, without, &b], "in-a"),
        levels(&[&["a1"], &["a2", "b1"]]),
        "who gets nothing needs none"
    );
}

#[test]
fn hints_for_nodes_go_before_those_for_zones() {
    let hints = [hint("a", "a1"), hint("a", "a2"), hint("b", "b2")];
    let three = three([&hints[0], &hints[1], &hints[2]]);
    let texts = [&*service(""), &three[0], &three[1], &three[2]];
    assert_eq!(order(&texts, "in-a"), levels(&[&["a1"], &["a2"], &["b1"]]));
    assert_eq!(order(&texts, "in-b"), levels(&[&["b1"], &["a1", "a2"]]));
}

#[test]
fn callers_share_a_list_as_far_as_they_are_at_one_place() {
    let three = three([""; 3]);
    let scope = |says: &str, caller: &str| {
        let world = world(&[&service(says), &three[0], &three[1], &three[2]]);
        compile::scope(&world, &node("demo", caller), Kind::Endpoints, NEAR)
    };
    let place = |text: &str| Scope::Place(text.into());
    assert_eq!(scope("", "in-a"), Scope::Mesh);
    let zone = "trafficDistribution: PreferSameZone";
    assert_eq!((scope(zone, "in-a"), scope(zone, "in-b")), (place("a/"), place("b/")));
    assert_eq!((scope(zone, "in-c"), scope(zone, "somewhere")), (Scope::Mesh, Scope::Mesh));
    let node = "trafficDistribution: PreferSameNode";
    assert_eq!((scope(node, "in-a"), scope(node, "in-b")), (place("a/a1"), place("b/")));
}
