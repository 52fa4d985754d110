//! The store on a real API server: what every store must do, and what servers that die, processes that are killed and objects
//! that are no documents do to it.

mod crash;
mod numbered;
mod source;

use super::{Kubernetes, KubernetesOptions};
use crate::{
    leader::{Holder, Lease},
    metrics::Metrics,
    store::{
        Batch, Change, Error, Expect, Store,
        conformance::{self, service},
    },
};
use numbered::Numbered;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use weir_config::resources::{Key, Kind};
use weir_tests::cluster::Cluster;

/// The namespaces of the documents in tests.
const NAMESPACES: [&str; 3] = ["demo", "demo2", "prod"];
/// Where Secrets are.
const OURS: &str = "weir-system";

/// A cluster, and a runtime to talk to it; the store is called from a thread that has none.
struct House {
    runtime: Runtime,
    cluster: Cluster,
}

impl House {
    fn new() -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(Cluster::start())?;
        runtime.block_on(cluster.install_kinds());
        for namespace in NAMESPACES.into_iter().chain([OURS]) {
            runtime.block_on(cluster.kubectl(&["create", "namespace", namespace]));
        }
        Some(Self { runtime, cluster })
    }

    fn options(&self, namespace: &str) -> KubernetesOptions {
        KubernetesOptions { kubeconfig: Some(self.cluster.kubeconfig.clone()), namespace: namespace.into() }
    }

    fn open(&self) -> Kubernetes {
        Kubernetes::open(&self.options(OURS), Metrics::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.runtime.block_on(self.cluster.kubectl(arguments))
    }

    fn apply(&self, documents: &str) {
        self.runtime.block_on(self.cluster.apply(documents));
    }
}

fn eventually(what: &str, check: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(40);
    while !check() {
        assert!(Instant::now() < limit, "not within 40 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_does_what_every_store_must() {
    let Some(house) = House::new() else { return };
    for (n, (name, case)) in conformance::CASES.iter().enumerate() {
        eprintln!("{name}");
        for namespace in NAMESPACES {
            house.kubectl(&["delete", "services,httproutes", "--all", "-n", namespace]);
        }
        let ours = format!("weir-{n}");
        house.kubectl(&["create", "namespace", &ours]);
        let store = Kubernetes::open(&house.options(&ours), Metrics::default()).unwrap_or_else(|e| panic!("{e}"));
        case(&Numbered::new(store));
    }
}

#[test]
fn writers_on_two_replicas_lose_nothing_and_see_the_same() {
    let Some(house) = House::new() else { return };
    let (a, b) = (house.open(), house.open());
    thread::scope(|scope| {
        for (name, store) in [("a", &a), ("b", &b)] {
            scope.spawn(move || {
                for n in 0..10 {
                    let pair = [service(&format!("{name}{n}"), 80), service(&format!("{name}{n}-too"), 80)];
                    store.apply(&Batch::put_all(pair)).unwrap();
                    assert!(store.get(&key(&format!("{name}{n}-too"))).is_some(), "what is written is seen");
                }
            });
        }
    });
    eventually("both see all", || [&a, &b].iter().all(|s| s.list(Kind::Service, Some("demo")).1.len() == 40));
    // What one replica has just written, the other one knows when it is asked to change it.
    a.apply(&Batch::put_all([service("a0", 81)])).unwrap();
    let stale = a.get(&key("a0")).unwrap().resource_version - 1;
    let change = Change::Delete { key: key("a0"), expect: Expect::Version(stale) };
    assert!(matches!(b.apply(&change.into()), Err(Error::Conflict { .. })));
    let now = a.get(&key("a0")).unwrap().resource_version;
    b.apply(&Change::Delete { key: key("a0"), expect: Expect::Version(now) }.into()).unwrap();
    eventually("it is gone for both", || a.get(&key("a0")).is_none());
    let (one, other) = (a.snapshot(), b.snapshot());
    let versions = |s: &crate::store::Snapshot| -> Vec<(String, u64)> {
        s.iter().map(|(key, stored)| (key.to_string(), stored.resource_version)).collect()
    };
    assert_eq!(versions(&one), versions(&other), "documents have the same versions everywhere");
}

#[test]
fn a_leadership_is_one_replicas_and_passes_on() {
    let Some(house) = House::new() else { return };
    let (a, b) = (house.open(), house.open());
    let (one, other) = (a.lease("weir-leader"), b.lease("weir-leader"));
    let life = Duration::from_secs(2);
    assert_eq!(one.hold("a", life).unwrap(), Holder::Us);
    assert_eq!(one.hold("a", life).unwrap(), Holder::Us, "renewed");
    assert_eq!(other.hold("b", life).unwrap(), Holder::Other("a".into()));
    // Renewed: its time begins anew for those who look.
    assert_eq!(one.hold("a", life).unwrap(), Holder::Us);
    assert_eq!(other.hold("b", life).unwrap(), Holder::Other("a".into()));
    eventually("a lease that is not renewed runs out", || other.hold("b", life).unwrap() == Holder::Us);
    assert_eq!(one.hold("a", life).unwrap(), Holder::Other("b".into()));
    other.release("b").unwrap();
    assert_eq!(one.hold("a", life).unwrap(), Holder::Us, "given up, it is free at once");
}

fn key(name: &str) -> Key {
    Key::new(Kind::Service, "demo", name)
}

fn fresh(document: weir_config::resources::Document) -> Batch {
    Change::Put { document: Arc::new(document), expect: Expect::Absent }.into()
}
