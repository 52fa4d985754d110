//! Random histories: the world changes, messages travel or wait, clients refuse and reconnect, and in the end each
//! client holds exactly what it should. After each step nothing may be routed to a cluster that the client does not have.

use super::*;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use std::collections::VecDeque;

const SERVICES: usize = 6;
const STEPS: usize = 250;

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    /// Wildcards for clusters and listeners; a changed cluster warms until its endpoints come, and the verdict on it
    /// waits so long. Like Envoy.
    Everything,
    /// Asks for listeners by name, and for what they name. Like our sidecar, and gRPC.
    OnDemand,
}

/// A message of the client.
type Sent = (Kind, Request);

struct Client {
    protocol: Protocol,
    style: Style,
    held: [BTreeMap<Name, Arc<Encoded>>; 5],
    asked: [BTreeSet<Name>; 5],
    nonces: [String; 5],
    wanted: BTreeSet<Name>,
    /// Clusters that wait for their endpoints, and the verdicts that wait for them.
    warming: BTreeSet<Name>,
    withheld: Vec<Sent>,
    outbox: VecDeque<Sent>,
    /// State of the world starts again with what is left, so until it is settled a reconnect may break.
    fragile: bool,
    reconnected: bool,
}

impl Client {
    fn new(protocol: Protocol, style: Style) -> Self {
        let mut client = Self {
            protocol,
            style,
            held: Default::default(),
            asked: Default::default(),
            nonces: Default::default(),
            wanted: BTreeSet::new(),
            warming: BTreeSet::new(),
            withheld: Vec::new(),
            outbox: VecDeque::new(),
            fragile: false,
            reconnected: false,
        };
        client.connect();
        client
    }

    fn connect(&mut self) {
        self.nonces = Default::default();
        self.outbox.clear();
        self.withheld.clear();
        for kind in Kind::ALL {
            let named: Vec<Name> = self.asked[kind as usize].iter().cloned().collect();
            let mut names: Vec<String> = named.iter().map(ToString::to_string).collect();
            if self.wildcard(kind) {
                // One half as old Envoys do it.
                if kind == Kind::Listener {
                    names.push("*".into());
                }
            } else if names.is_empty() {
                continue;
            }
            let held = &self.held[kind as usize];
            let initial = held.iter().map(|(n, r)| (n.to_string(), r.version.to_string())).collect();
            let names = match self.protocol {
                Protocol::Delta => Names::Delta { subscribe: names, unsubscribe: Vec::new(), initial },
                Protocol::Sotw => Names::Sotw(names),
            };
            self.outbox.push_back((kind, Request { names, ..Request::default() }));
        }
    }

    fn wildcard(&self, kind: Kind) -> bool {
        self.style == Style::Everything && matches!(kind, Kind::Cluster | Kind::Listener)
    }

    fn refs(&self, from: Kind, to: Kind) -> BTreeSet<Name> {
        let refs = self.held[from as usize].values().flat_map(|r| &r.refs);
        refs.filter(|(k, _)| *k == to).map(|(_, n)| n.clone()).collect()
    }

    fn desired(&self, kind: Kind) -> BTreeSet<Name> {
        match kind {
            Kind::Secret => ["ROOTCA".into()].into(),
            Kind::Cluster if self.style == Style::OnDemand => self.refs(Kind::Route, Kind::Cluster),
            Kind::Listener if self.style == Style::OnDemand => self.wanted.clone(),
            Kind::Cluster | Kind::Listener => BTreeSet::new(),
            Kind::Endpoints => self.refs(Kind::Cluster, Kind::Endpoints),
            Kind::Route => self.refs(Kind::Listener, Kind::Route),
        }
    }

    /// Asks for what what it holds names, and lets go of the rest.
    fn follow(&mut self) {
        for kind in Kind::ALL {
            let desired = self.desired(kind);
            let asked = std::mem::replace(&mut self.asked[kind as usize], desired.clone());
            if asked == desired {
                continue;
            }
            let strings = |names: Vec<&Name>| names.into_iter().map(ToString::to_string).collect::<Vec<_>>();
            if !self.wildcard(kind) {
                self.held[kind as usize].retain(|n, _| desired.contains(n));
            }
            let names = match self.protocol {
                Protocol::Delta => Names::Delta {
                    subscribe: strings(desired.difference(&asked).collect()),
                    unsubscribe: strings(asked.difference(&desired).collect()),
                    initial: BTreeMap::new(),
                },
                Protocol::Sotw => Names::Sotw(strings(desired.iter().collect())),
            };
            let nonce =
                if self.protocol == Protocol::Sotw { self.nonces[kind as usize].clone() } else { String::new() };
            self.outbox.push_back((kind, Request { nonce, error: None, names }));
        }
    }

    /// Takes a response; may refuse one resource of which it holds an older version.
    fn take(&mut self, push: &Push, refuse: bool) {
        let kind = push.kind;
        let at = kind as usize;
        let whole = self.protocol == Protocol::Sotw && matches!(kind, Kind::Cluster | Kind::Listener);
        let changed = |c: &Self, r: &Encoded| c.held[at].get(&r.name).is_none_or(|h| h.version != r.version);
        let bad = push.resources.iter().find(|r| refuse && self.held[at].contains_key(&r.name) && changed(self, r));
        let bad = bad.map(|r| r.name.clone());
        let mut warming = BTreeSet::new();
        for r in &push.resources {
            let unasked = !self.wildcard(kind) && !self.asked[at].contains(&r.name);
            if bad.as_ref() == Some(&r.name) || unasked {
                continue;
            }
            if kind == Kind::Cluster && self.style == Style::Everything && changed(self, r) {
                warming.insert(r.name.clone());
            }
            self.held[at].insert(r.name.clone(), r.clone());
        }
        self.held[at].retain(|n, _| !push.removed.contains(n));
        if whole {
            self.held[at].retain(|n, _| push.resources.iter().any(|r| r.name == *n));
        }
        self.warming.extend(warming.iter().cloned());
        self.warming.retain(|n| self.held[Kind::Cluster as usize].contains_key(n));
        if kind == Kind::Endpoints {
            let came: BTreeSet<&Name> = push.resources.iter().map(|r| &r.name).chain(&push.removed).collect();
            let clusters = &self.held[Kind::Cluster as usize];
            self.warming.retain(|c| !clusters[c].refs.iter().any(|(_, e)| came.contains(e)));
        }
        self.nonces[at] = push.nonce.clone();
        self.follow();
        let error = bad.map(|name| format!("{name}: not to my taste"));
        let names = match self.protocol {
            Protocol::Delta => {
                Names::Delta { subscribe: Vec::new(), unsubscribe: Vec::new(), initial: BTreeMap::new() }
            }
            Protocol::Sotw if kind == Kind::Listener && self.wildcard(kind) => Names::Sotw(vec!["*".into()]),
            Protocol::Sotw => Names::Sotw(self.asked[at].iter().map(ToString::to_string).collect()),
        };
        let verdict = (kind, Request { nonce: push.nonce.clone(), error, names });
        if self.warming.is_empty() || kind != Kind::Cluster {
            self.outbox.push_back(verdict);
        } else {
            self.withheld.push(verdict);
        }
        if self.warming.is_empty() {
            self.outbox.extend(self.withheld.drain(..));
        }
    }

    /// Endpoints that do not come are waited for 15 s (Envoy's `initial_fetch_timeout`). It may take that in the two
    /// cases where the protocol leaves the server no way to help: a client that was cut off while a cluster was warming
    /// says that it holds all, and in state-of-the-world nothing is said of what does not exist.
    fn time_out(&mut self) -> bool {
        let may = self.reconnected || self.protocol == Protocol::Sotw;
        if !may || self.warming.is_empty() {
            return false;
        }
        self.warming.clear();
        self.outbox.extend(self.withheld.drain(..));
        true
    }

    fn check_invariants(&self, trace: &[String]) {
        if self.style == Style::OnDemand || self.fragile {
            return;
        }
        for cluster in self.refs(Kind::Route, Kind::Cluster) {
            let there = self.held[Kind::Cluster as usize].contains_key(&cluster);
            assert!(there, "routes to cluster {cluster}, which it does not have\n{}", trace.join("\n"));
        }
    }
}

struct World {
    rng: SmallRng,
    view: TestView,
    version: u64,
    content: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self { rng: SmallRng::seed_from_u64(seed), view: TestView::default(), version: 1, content: 0 };
        world.view.set(Kind::Secret, "ROOTCA", "r1", &[]);
        for i in 0..SERVICES / 2 {
            world.add(&format!("s{i}"));
        }
        world
    }

    fn fresh(&mut self) -> String {
        self.content += 1;
        self.content.to_string()
    }

    fn clusters(&self) -> Vec<Name> {
        self.view.names(Kind::Cluster)
    }

    fn add(&mut self, name: &str) {
        let version = self.fresh();
        self.view.service(name, &version);
    }

    /// A route to one or two clusters that exist.
    fn reroute(&mut self, name: &str) {
        let clusters = self.clusters();
        let to: Vec<Name> = (0..2).filter_map(|_| clusters.choose(&mut self.rng).cloned()).collect();
        let refs: Vec<(Kind, &str)> = to.iter().map(|c| (Kind::Cluster, &**c)).collect();
        let version = self.fresh();
        self.view.set(Kind::Route, name, &version, &refs);
    }

    fn remove(&mut self, name: &str) {
        for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Route] {
            self.view.remove(kind, name);
        }
        let gone = Name::from(name);
        let lost = |r: &Encoded| r.refs.contains(&(Kind::Cluster, gone.clone()));
        let routes: Vec<Name> = self
            .view
            .all
            .iter()
            .filter(|((k, _), r)| *k == Kind::Route && lost(r))
            .map(|((_, n), _)| n.clone())
            .collect();
        for route in routes {
            self.reroute(&route);
        }
    }

    fn change(&mut self) -> String {
        self.version += 1;
        let name = format!("s{}", self.rng.random_range(0..SERVICES));
        let exists = self.view.resource(Kind::Cluster, &name).is_some();
        let version = self.fresh();
        let what = match self.rng.random_range(0..7) {
            _ if !exists => "added",
            0 => "removed",
            1 => "cluster",
            2 | 3 => "endpoints",
            4 | 5 => "rerouted",
            _ => "root",
        };
        match what {
            "added" => self.add(&name),
            "removed" if self.clusters().len() > 1 => self.remove(&name),
            "cluster" => self.view.set(Kind::Cluster, &name, &version, &[(Kind::Endpoints, &name)]),
            "endpoints" => self.view.set(Kind::Endpoints, &name, &version, &[]),
            "rerouted" => self.reroute(&name),
            _ => self.view.set(Kind::Secret, "ROOTCA", &version, &[]),
        }
        format!("world {}: {what} {name}", self.version)
    }

    /// Gives every resource a new version, so that nothing stays refused.
    fn renew(&mut self) {
        self.version += 1;
        let all: Vec<_> = self.view.all.keys().cloned().collect();
        for key in all {
            let version = self.fresh();
            let mut encoded = (*self.view.all[&key]).clone();
            encoded.version = version.into();
            self.view.all.insert(key, Arc::new(encoded));
        }
    }
}

struct Simulation {
    world: World,
    machine: Machine,
    client: Client,
    wire: VecDeque<Push>,
    trace: Vec<String>,
    refusing: bool,
    reconnects: bool,
}

impl Simulation {
    fn new(protocol: Protocol, style: Style, seed: u64) -> Self {
        Self {
            world: World::new(seed),
            machine: Machine::new(protocol, Limits::default()),
            client: Client::new(protocol, style),
            wire: VecDeque::new(),
            trace: vec![format!("{protocol:?} {style:?} seed {seed}")],
            refusing: true,
            reconnects: seed.is_multiple_of(2),
        }
    }

    fn step(&mut self) {
        match self.world.rng.random_range(0..100) {
            0..20 => {
                let what = self.world.change();
                self.trace.push(what);
                self.poll();
            }
            20..22 if self.reconnects => self.reconnect(),
            22..30 if self.client.style == Style::OnDemand => {
                let name = Name::from(format!("s{}", self.world.rng.random_range(0..SERVICES)));
                if !self.client.wanted.remove(&name) {
                    self.client.wanted.insert(name);
                }
                self.client.follow();
            }
            30..65 => self.deliver(),
            _ => self.hear(),
        }
    }

    fn poll(&mut self) {
        let polled = self.machine.poll(self.world.version, &self.world.view);
        for line in told(&polled.pushes) {
            self.trace.push(format!("  > {line}"));
        }
        self.wire.extend(polled.pushes);
    }

    /// The client takes a response.
    fn deliver(&mut self) {
        let Some(push) = self.wire.pop_front() else { return };
        let refuse = self.refusing && self.world.rng.random_range(0..12) == 0;
        self.trace.push(format!("takes {} (may refuse: {refuse})", told(std::slice::from_ref(&push))[0]));
        self.client.take(&push, refuse);
        self.client.check_invariants(&self.trace);
    }

    /// The server takes a message.
    fn hear(&mut self) {
        let Some((kind, request)) = self.client.outbox.pop_front() else { return };
        self.trace.push(format!("hears {} {request:?}", kind.as_str()));
        self.machine.request(kind, request).unwrap();
        self.poll();
    }

    fn reconnect(&mut self) {
        self.trace.push("reconnects".into());
        self.wire.clear();
        self.machine = Machine::new(self.client.protocol, Limits::default());
        self.client.reconnected = true;
        self.client.fragile = self.client.protocol == Protocol::Sotw;
        self.client.connect();
        // What a client says first comes together.
        while let Some((kind, request)) = self.client.outbox.pop_front() {
            self.machine.request(kind, request).unwrap();
        }
        self.poll();
    }

    fn settle(&mut self) {
        self.refusing = false;
        self.world.renew();
        self.poll();
        for _ in 0..10_000 {
            if self.wire.is_empty() && self.client.outbox.is_empty() && !self.client.time_out() {
                return;
            }
            self.deliver();
            self.hear();
        }
        panic!("it never ends\n{}", self.trace.join("\n"));
    }

    fn check_end(&self) {
        let trace = || self.trace.join("\n");
        assert_eq!(self.machine.behind_since(), None, "{}", trace());
        assert_eq!(self.client.warming, BTreeSet::new(), "clusters that never got their endpoints\n{}", trace());
        for kind in Kind::ALL {
            let standing = self.machine.standing(kind);
            assert_eq!((standing.in_flight, standing.waiting), (0, 0), "{kind:?}\n{}", trace());
            let view = &self.world.view;
            let names = if self.client.wildcard(kind) {
                view.names(kind).into_iter().collect()
            } else {
                self.client.desired(kind)
            };
            let should: BTreeMap<Name, Arc<Encoded>> =
                names.iter().filter_map(|n| Some((n.clone(), view.resource(kind, n)?))).collect();
            assert_eq!(self.client.held[kind as usize], should, "{kind:?}\n{}", trace());
        }
    }
}

fn histories(protocol: Protocol, style: Style) {
    for seed in 0..150 {
        let mut simulation = Simulation::new(protocol, style, seed);
        simulation.client.follow();
        for _ in 0..STEPS {
            simulation.step();
        }
        simulation.settle();
        simulation.check_end();
    }
}

#[test]
fn delta_with_wildcards_ends_right_and_never_routes_into_nothing() {
    histories(Protocol::Delta, Style::Everything);
}

#[test]
fn delta_on_demand_ends_right() {
    histories(Protocol::Delta, Style::OnDemand);
}

#[test]
fn sotw_with_wildcards_ends_right_and_never_routes_into_nothing() {
    histories(Protocol::Sotw, Style::Everything);
}

#[test]
fn sotw_by_name_ends_right() {
    histories(Protocol::Sotw, Style::OnDemand);
}
