//! What belongs together, and what a change leaves as it was.

use super::{World, follow};
use crate::store::{Batch, Memory, Store};
use std::sync::Arc;
use weir_config::resources::parse;

fn apply(store: &dyn Store, text: &str) {
    store.apply(&Batch::put_all(parse("test.yaml", text).unwrap())).unwrap();
}

fn service(name: &str, namespace: &str, selector: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{selector: {selector}, ports: [{{port: 80}}]}}}}\n---\n"
    )
}

fn workload(name: &str, namespace: &str, labels: &str) -> String {
    let address = format!("10.0.{}.{}", namespace.len() + name.len(), name.bytes().map(u32::from).sum::<u32>());
    format!(
        "{{apiVersion: weir.dev/v1alpha1, kind: Workload, metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}, \
         spec: {{address: {address}}}}}\n---\n"
    )
}

fn behind(world: &World, namespace: &str, name: &str) -> Vec<String> {
    world.service(namespace, name).unwrap().workloads.iter().map(|w| w.name().to_string()).collect()
}

#[test]
fn selectors_mean_workloads_of_their_namespace() {
    let store = Memory::default();
    let text = [
        service("both", "demo", "{app: web, tier: front}"),
        service("app", "demo", "{app: web}"),
        service("none", "demo", "{app: ghost}"),
        service("empty", "demo", "{}"),
        workload("w2", "demo", "{app: web}"),
        workload("w1", "demo", "{app: web, tier: front, x: y}"),
        workload("w3", "demo", "{tier: front}"),
        workload("w5", "prod", "{app: web, tier: front}"),
    ];
    apply(&store, &text.concat());
    let world = World::build(store.snapshot(), &World::default());
    assert_eq!(behind(&world, "demo", "both"), ["w1"]);
    assert_eq!(behind(&world, "demo", "app"), ["w1", "w2"]);
    assert!(behind(&world, "demo", "none").is_empty());
    assert!(behind(&world, "demo", "empty").is_empty(), "no selector selects nobody");
    let services = |name: &str| -> Vec<String> {
        world.workload("demo", name).unwrap().services.iter().map(|s| s.name().to_string()).collect()
    };
    assert_eq!(services("w1"), ["app", "both"]);
    assert_eq!(services("w2"), ["app"]);
    assert!(services("w3").is_empty());
    assert!(world.workload("prod", "w5").unwrap().services.is_empty());
    assert_eq!((world.services().count(), world.workloads().count()), (4, 4));
}

#[test]
fn what_a_change_does_not_touch_is_shared() {
    let store = Memory::default();
    let text = [
        service("a", "demo", "{app: a}"),
        service("b", "demo", "{app: b}"),
        workload("a1", "demo", "{app: a}"),
        workload("b1", "demo", "{app: b}"),
    ];
    apply(&store, &text.concat());
    let first = World::build(store.snapshot(), &World::default());
    apply(&store, &workload("b2", "demo", "{app: b}"));
    let second = World::build(store.snapshot(), &first);
    assert_eq!((first.version(), second.version()), (1, 2));
    let shared = |name| Arc::ptr_eq(first.service("demo", name).unwrap(), second.service("demo", name).unwrap());
    assert!(shared("a") && !shared("b"));
    let (old, new) = (first.service("demo", "b").unwrap(), second.service("demo", "b").unwrap());
    assert!(Arc::ptr_eq(&old.item, &new.item), "the service itself is the same");
    assert!(Arc::ptr_eq(first.workload("demo", "b1").unwrap(), second.workload("demo", "b1").unwrap()));
}

#[tokio::test]
async fn worlds_follow_the_store() {
    let store = Memory::default();
    apply(&store, &service("a", "demo", "{app: a}"));
    let (mut worlds, run) = follow(store.watch());
    assert_eq!(worlds.borrow_and_update().version(), 1, "the first world is there at once");
    let running = tokio::spawn(run);
    apply(&store, &service("b", "demo", "{app: b}"));
    let seen = worlds.wait_for(|world| world.version() == 2).await.unwrap().clone();
    assert!(seen.service("demo", "b").is_some());
    drop(store);
    running.await.unwrap();
}
