//! The machine against the traps of the protocol, one by one, and against model clients under random histories.

mod simulation;
mod traps_delta;
mod traps_gate;
mod traps_sotw;

use super::*;
use std::collections::BTreeMap;

/// A world of made-up resources.
#[derive(Debug, Clone, Default)]
struct TestView {
    all: BTreeMap<(Kind, Name), Arc<Encoded>>,
}

impl View for TestView {
    fn resource(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        self.all.get(&(kind, name.into())).cloned()
    }

    fn names(&self, kind: Kind) -> Vec<Name> {
        self.all.keys().filter(|(k, _)| *k == kind).map(|(_, n)| n.clone()).collect()
    }
}

impl TestView {
    fn set(&mut self, kind: Kind, name: &str, version: &str, refs: &[(Kind, &str)]) {
        let encoded = Encoded {
            name: name.into(),
            version: version.into(),
            type_url: "test",
            bytes: Bytes::copy_from_slice(version.as_bytes()),
            refs: refs.iter().map(|(k, n)| (*k, Name::from(*n))).collect(),
        };
        self.all.insert((kind, name.into()), Arc::new(encoded));
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        self.all.remove(&(kind, name.into()));
    }

    /// A service: cluster, endpoints, and a route and listener of the same name.
    fn service(&mut self, name: &str, version: &str) {
        self.set(Kind::Cluster, name, version, &[(Kind::Endpoints, name)]);
        self.set(Kind::Endpoints, name, "e1", &[]);
        self.set(Kind::Route, name, version, &[(Kind::Cluster, name)]);
        self.set(Kind::Listener, name, "l1", &[(Kind::Route, name)]);
    }
}

/// A machine with its world, driven by hand.
struct Bench {
    machine: Machine,
    view: TestView,
    world: u64,
    concerned: bool,
}

impl Bench {
    fn new(protocol: Protocol) -> Self {
        Self {
            machine: Machine::new(protocol, Limits::default()),
            view: TestView::default(),
            world: 1,
            concerned: false,
        }
    }

    fn poll(&mut self) -> Vec<Push> {
        let polled = self.machine.poll(self.world, &self.view);
        self.concerned = polled.concerned;
        polled.pushes
    }

    /// The world changes.
    fn next(&mut self, change: impl FnOnce(&mut TestView)) -> Vec<Push> {
        change(&mut self.view);
        self.world += 1;
        self.poll()
    }

    fn ask(&mut self, kind: Kind, request: Request) -> Vec<Push> {
        self.machine.request(kind, request).unwrap();
        self.poll()
    }

    fn subscribe(&mut self, kind: Kind, names: &[&str]) -> Vec<Push> {
        self.ask(kind, delta(names, &[], ""))
    }

    fn ack(&mut self, push: &Push) -> Vec<Push> {
        self.ask(push.kind, delta(&[], &[], &push.nonce))
    }

    fn nack(&mut self, push: &Push, message: &str) -> Vec<Push> {
        self.ask(push.kind, Request { error: Some(message.into()), ..delta(&[], &[], &push.nonce) })
    }

    /// Acknowledges these and whatever comes of it, until nothing is owed; gives what came.
    fn settle(&mut self, pushes: Vec<Push>) -> Vec<Push> {
        let mut seen = Vec::new();
        let mut todo = pushes;
        while !todo.is_empty() {
            let mut next = Vec::new();
            for push in &todo {
                next.extend(self.ack(push));
            }
            seen.extend(todo);
            todo = next;
        }
        seen
    }

    /// A client that asked for everything of two services, `a` and `b`, by wildcard where there is one.
    fn envoy() -> Self {
        let mut bench = Self::new(Protocol::Delta);
        bench.view.service("a", "1");
        bench.view.service("b", "1");
        let mut pushes = bench.subscribe(Kind::Cluster, &[]);
        pushes.extend(bench.subscribe(Kind::Endpoints, &["a", "b"]));
        pushes.extend(bench.subscribe(Kind::Listener, &["*"]));
        pushes.extend(bench.subscribe(Kind::Route, &["a", "b"]));
        bench.settle(pushes);
        assert_eq!(bench.machine.behind_since(), None);
        bench
    }
}

fn delta(subscribe: &[&str], unsubscribe: &[&str], nonce: &str) -> Request {
    let names = Names::Delta {
        subscribe: subscribe.iter().map(ToString::to_string).collect(),
        unsubscribe: unsubscribe.iter().map(ToString::to_string).collect(),
        initial: BTreeMap::new(),
    };
    Request { nonce: nonce.into(), error: None, names }
}

fn reconnect(subscribe: &[&str], initial: &[(&str, &str)]) -> Request {
    let names = Names::Delta {
        subscribe: subscribe.iter().map(ToString::to_string).collect(),
        unsubscribe: Vec::new(),
        initial: initial.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
    };
    Request { nonce: String::new(), error: None, names }
}

fn sotw(names: &[&str], nonce: &str) -> Request {
    Request { nonce: nonce.into(), error: None, names: Names::Sotw(names.iter().map(ToString::to_string).collect()) }
}

/// `kind: +name@version -name`, one line for each push.
fn told(pushes: &[Push]) -> Vec<String> {
    let line = |push: &Push| {
        let mut words = vec![format!("{}:", push.kind.as_str())];
        words.extend(push.resources.iter().map(|r| format!("+{}@{}", r.name, r.version)));
        words.extend(push.removed.iter().map(|n| format!("-{n}")));
        words.join(" ")
    };
    pushes.iter().map(line).collect()
}
