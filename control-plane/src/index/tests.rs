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

#[test]
fn only_the_namespace_of_a_change_is_made_anew() {
    let store = Memory::default();
    let text =
        [service("a", "demo", "{app: a}"), workload("a1", "demo", "{app: a}"), workload("a1", "other", "{app: a}")];
    apply(&store, &text.concat());
    let first = World::build(store.snapshot(), &World::default());
    let unwell = workload("a1", "demo", "{app: a}").replace("spec: {", "spec: {health: Unhealthy, ");
    apply(&store, &unwell);
    let second = World::build(store.snapshot(), &first);
    let shared = |namespace| Arc::ptr_eq(&first.namespaces[namespace], &second.namespaces[namespace]);
    assert!(shared("other") && !shared("demo"));
    // Nobody has moved: where everything is, is not made again; and what is there is what is there now.
    assert!(Arc::ptr_eq(&first.places, &second.places));
    let at = second.workload("demo", "a1").unwrap().address;
    let Some(super::Addressed::Workloads(there)) = second.address(at) else { panic!("an instance") };
    assert!(Arc::ptr_eq(there[0], second.workload("demo", "a1").unwrap()));
}

/// Whatever is changed after whatever: a world made from the one before is the one that is made from nothing.
#[test]
fn a_world_that_shares_is_the_world_that_does_not() {
    use crate::store::{Change, Expect};
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
    const NAMESPACES: [&str; 3] = ["one", "two", "three"];
    for seed in 0..20 {
        let mut random = SmallRng::seed_from_u64(seed);
        let store = Memory::default();
        let mut world = World::default();
        for _ in 0..60 {
            let mut any = |n: usize| random.random_range(0..n);
            let namespace = NAMESPACES[any(3)];
            let name = format!("x{}", any(3));
            let (label, number) = (format!("{{app: x{}}}", any(3)), any(4));
            let text = match any(7) {
                0 => service(&name, namespace, &label),
                1 => {
                    service(&name, namespace, &label).replace("ports:", &format!("clusterIP: 10.96.0.{number}, ports:"))
                }
                2 | 3 => {
                    workload(&name, namespace, &label).replace("address: 10.0.", &format!("address: 10.{number}."))
                }
                4 => format!(
                    "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}, namespace: {namespace}}}, \
                     spec: {{parentRefs: [{{group: '', kind: Service, name: x{number}}}], rules: [{{backendRefs: [{{name: x{number}, port: 80}}]}}]}}}}"
                ),
                5 => format!(
                    "{{apiVersion: weir.dev/v1alpha1, kind: ExternalService, metadata: {{name: {name}, namespace: {namespace}}}, \
                     spec: {{hosts: [h{number}.example.com], ports: [{{port: 5432, protocol: TCP}}], addresses: [10.{number}.7.1]}}}}"
                ),
                _ => {
                    let snapshot = store.snapshot();
                    let keys: Vec<_> = snapshot.iter().map(|(key, _)| key.clone()).collect();
                    if !keys.is_empty() {
                        let key = keys[any(keys.len())].as_ref().clone();
                        // What others refer to stays.
                        let _ = store.apply(&Change::Delete { key, expect: Expect::Any }.into());
                    }
                    String::new()
                }
            };
            if !text.is_empty() {
                // What does not fit together is refused, and changes nothing.
                let _ = store.apply(&Batch::put_all(parse("test.yaml", &text).unwrap()));
            }
            world = World::build(store.snapshot(), &world);
            let anew = World::build(store.snapshot(), &World::default());
            assert_eq!(format!("{world:?}"), format!("{anew:?}"), "seed {seed}");
        }
        assert!(store.snapshot().len() > 5, "seed {seed}: hardly anything was changed");
    }
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
