//! What is kept of those that go, by several replicas.

use super::*;
use crate::{
    fleet::{Seat, tests::who},
    metrics::Metrics,
    store::{Batch, Change, Expect, Memory},
};

fn replica(store: &Arc<dyn Store>) -> Leavings {
    let (_, leader) = watch::channel(Standing::default());
    Leavings { store: store.clone(), fleet: Fleet::new(Metrics::default()), leader }
}

fn store(workloads: &[&str]) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    for (n, workload) in (1..).zip(workloads) {
        let (name, more) = workload.split_once(' ').unwrap_or((workload, ""));
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, namespace: demo}}\nspec: {{address: 10.0.0.{n}, serviceAccount: web{more}}}\n"
        );
        store.apply(&Batch::put_all(weir_config::resources::parse("test", &text).unwrap())).unwrap();
    }
    store
}

fn connect(replica: &Leavings, node: &str) -> Seat {
    replica.fleet.connect(who(node))
}

fn leaving(replica: &Leavings) -> String {
    replica.fleet.leaving().borrow().iter().map(|n| &**n).collect::<Vec<_>>().join(" ")
}

#[test]
fn all_replicas_know_who_goes_and_one_that_starts_does_too() {
    let store = store(&["x", "y", "z , health: Draining"]);
    let (a, b) = (replica(&store), replica(&store));
    connect(&a, "demo/x").leaves();
    connect(&b, "demo/y").leaves();
    a.step(false).unwrap();
    b.step(false).unwrap();
    a.step(false).unwrap();
    assert_eq!((leaving(&a).as_str(), leaving(&b).as_str()), ("demo/x demo/y", "demo/x demo/y"));
    let c = replica(&store);
    c.step(false).unwrap();
    assert_eq!(leaving(&c), "demo/x demo/y");
    // It comes back, to whichever.
    connect(&c, "demo/x").stays();
    c.step(false).unwrap();
    a.step(false).unwrap();
    assert_eq!((leaving(&c).as_str(), leaving(&a).as_str()), ("demo/y", "demo/y"));
    // What the documents say, or do not know, is not kept beside them.
    connect(&a, "demo/z").leaves();
    connect(&a, "demo/nobody").leaves();
    a.step(false).unwrap();
    assert_eq!(store.meta(ENTRY).unwrap().unwrap(), br#"["demo/y"]"#);
    // Nor what is no more.
    let gone = Change::Delete { key: Key::new(Kind::Workload, "demo", "y"), expect: Expect::Any };
    store.apply(&Batch::from(gone)).unwrap();
    a.step(false).unwrap();
    assert_eq!(leaving(&a), "demo/y");
    a.step(true).unwrap();
    assert_eq!((leaving(&a).as_str(), store.meta(ENTRY).unwrap()), ("", None));
}

#[test]
fn what_cannot_be_read_is_as_if_nothing_were_kept() {
    let store = store(&["x"]);
    store.set_meta(ENTRY, MetaExpect::Any, Some(b"{\"later\": 1}")).unwrap();
    let a = replica(&store);
    a.step(false).unwrap();
    assert_eq!(leaving(&a), "");
    connect(&a, "demo/x").leaves();
    a.step(false).unwrap();
    assert_eq!(store.meta(ENTRY).unwrap().unwrap(), br#"["demo/x"]"#);
}
