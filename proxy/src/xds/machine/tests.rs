//! The machine against a simulated control plane.

mod names;

use super::{super::testing::*, *};
use std::collections::HashMap;
use weir_config::xds::{Class, ads};

const WEB: &str = "web:8080";
const F: &str = "web.demo.svc.cluster.local:8080";
const G: &str = "web-v2.demo.svc.cluster.local:8080";

/// What a control plane knows of one client, by the rules of the protocol.
#[derive(Default)]
struct Server {
    subscribed: BTreeSet<(Kind, String)>,
    nonce: u32,
    acks: Vec<(String, Option<String>)>,
    initial: HashMap<(Kind, String), String>,
    node: Option<Node>,
    first_seen: BTreeSet<Kind>,
}

impl Server {
    fn receive(&mut self, requests: Vec<Request>) -> Vec<(Kind, String)> {
        let mut new = Vec::new();
        for request in requests {
            let kind = xds::kind_of(&request.type_url).unwrap();
            if self.first_seen.is_empty() {
                assert!(request.node.is_some(), "the first message names the node");
                self.node = request.node.clone();
            }
            if self.first_seen.insert(kind) {
                assert!(!request.resource_names_subscribe.is_empty(), "an empty first subscription means all");
            }
            for name in request.resource_names_subscribe {
                self.subscribed.insert((kind, name.clone()));
                new.push((kind, name));
            }
            for name in request.resource_names_unsubscribe {
                assert!(self.subscribed.remove(&(kind, name)), "only what is subscribed can be given up");
            }
            self.initial.extend(request.initial_resource_versions.into_iter().map(|(n, v)| ((kind, n), v)));
            if !request.response_nonce.is_empty() {
                self.acks.push((request.response_nonce, request.error_detail.map(|e| e.message)));
            }
        }
        new
    }

    fn response(&mut self, kind: Kind, items: &[Item], removed: &[&str]) -> DeltaDiscoveryResponse {
        self.nonce += 1;
        let resources = items.iter().map(|item| {
            let body = xds::encode(item, Class::Sidecar);
            Resource {
                name: item.name().to_string(),
                version: xds::version_of(&body),
                resource: Some(ads::any(kind, &body)),
                ..Resource::default()
            }
        });
        DeltaDiscoveryResponse {
            type_url: xds::type_url(kind).into(),
            resources: resources.collect(),
            removed_resources: removed.iter().map(ToString::to_string).collect(),
            nonce: self.nonce.to_string(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

/// Machine and server, and the last configuration that was passed on.
struct Mesh {
    machine: Machine,
    server: Server,
    now: Instant,
    published: Option<Resources>,
    absent: BTreeSet<ResourceName>,
    /// What was named and not there at the last step.
    missing: BTreeSet<(Kind, ResourceName)>,
}

impl Mesh {
    fn new() -> Self {
        let now = Instant::now();
        let roots = [(Kind::Listener, "inbound/demo/web-1".into()), (Kind::Secret, "ROOTCA".into())];
        let node = Node { id: "demo/web-1".into(), ..Node::default() };
        let mut mesh = Self {
            machine: Machine::new(node, roots, now),
            server: Server::default(),
            now,
            published: None,
            absent: BTreeSet::new(),
            missing: BTreeSet::new(),
        };
        mesh.connect();
        mesh
    }

    fn connect(&mut self) {
        self.server = Server { nonce: self.server.nonce, ..Server::default() };
        let requests = self.machine.connect(self.now);
        self.server.receive(requests);
        self.check();
    }

    fn want(&mut self, authority: &str) -> Vec<(Kind, String)> {
        let requests = self.machine.want(&authority.into(), self.now).unwrap();
        let new = self.server.receive(requests);
        self.publish();
        new
    }

    fn send(&mut self, item: Item) -> Outcome {
        self.respond(item.kind(), &[item], &[])
    }

    fn respond(&mut self, kind: Kind, items: &[Item], removed: &[&str]) -> Outcome {
        let response = self.server.response(kind, items, removed);
        let mut outcome = self.machine.response(response, self.now);
        self.server.receive(std::mem::take(&mut outcome.requests));
        self.publish();
        outcome
    }

    fn publish(&mut self) {
        if let Some(published) = self.machine.publish(self.now) {
            self.server.receive(published.requests);
            self.published = Some(published.resources);
            self.absent = published.absent;
        }
        self.check();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.publish();
    }

    /// What must hold after every step: both sides agree, and nothing newly dangles that could have been waited for.
    fn check(&mut self) {
        let ours: BTreeSet<_> = self.machine.entries.keys().map(|(k, n)| (*k, n.to_string())).collect();
        assert_eq!(ours, self.server.subscribed, "both sides agree on what is subscribed to");
        let Some(r) = &self.published else { return };
        let mut missing = BTreeSet::new();
        let mut note = |kind: Kind, name: &ResourceName| {
            let there = match kind {
                Kind::Route => r.routes.contains_key(name),
                Kind::Cluster => r.clusters.contains_key(name),
                _ => true,
            };
            if !there {
                missing.insert((kind, name.clone()));
            }
        };
        r.listeners.values().for_each(|listener| interest::of_listener(listener, &mut note));
        r.routes.values().for_each(|routes| interest::of_route(routes, &mut note));
        for (kind, name) in missing.difference(&self.missing) {
            assert!(self.may_be_missing(*kind, name), "{name}");
        }
        self.missing = missing;
    }

    fn may_be_missing(&self, kind: Kind, name: &ResourceName) -> bool {
        self.machine.entries.get(&(kind, name.clone())).is_none_or(|e| match e.answer {
            Answer::Absent => true,
            _ => self.now.duration_since(e.since) >= WARMING_LIMIT,
        })
    }

    fn clusters(&self) -> Vec<String> {
        self.published.iter().flat_map(|r| r.clusters.keys()).map(ToString::to_string).collect()
    }

    fn forwards_to(&self) -> Vec<String> {
        let mut names = Vec::new();
        for route in self.published.iter().flat_map(|r| r.routes.values()) {
            interest::of_route(route, &mut |_, name| names.push(name.to_string()));
        }
        names
    }

    /// From an authority to its endpoints.
    fn bring_up(&mut self) {
        self.want(WEB);
        self.send(listener(WEB, F));
        self.send(route(F, &[F]));
        self.send(cluster(F, 5));
        self.send(endpoints(F, 1));
    }
}

#[test]
fn an_authority_leads_to_its_endpoints() {
    let mut mesh = Mesh::new();
    assert_eq!(mesh.server.node.as_ref().unwrap().id, "demo/web-1");
    assert_eq!(mesh.want(WEB), [(Kind::Listener, WEB.to_owned())]);
    assert_eq!(mesh.want(WEB), [], "once");
    for (item, next) in [
        (listener(WEB, F), Some(Kind::Route)),
        (route(F, &[F]), Some(Kind::Cluster)),
        (cluster(F, 5), Some(Kind::Endpoints)),
        (endpoints(F, 1), None),
    ] {
        assert!(mesh.published.as_ref().is_none_or(|r| r.listeners.is_empty()), "not before it is complete");
        let outcome = mesh.send(item);
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        if let Some(kind) = next {
            assert!(mesh.server.subscribed.contains(&(kind, F.to_owned())));
        }
    }
    let all = mesh.published.clone().unwrap();
    assert!(all.listeners.contains_key(WEB) && all.routes.contains_key(F));
    assert!(all.clusters.contains_key(F) && all.endpoints.contains_key(F));
    assert!(mesh.server.acks.iter().all(|(_, error)| error.is_none()));
    assert_eq!(mesh.server.acks.len(), 4);
}

#[test]
fn an_idle_authority_is_given_up_with_all_that_only_it_needs() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.want("other:8080");
    mesh.send(listener("other:8080", F));
    let requests = mesh.machine.forget(&WEB.into(), mesh.now);
    mesh.server.receive(requests);
    mesh.publish();
    assert!(mesh.server.subscribed.contains(&(Kind::Cluster, F.to_owned())), "another still needs it");
    let requests = mesh.machine.forget(&"other:8080".into(), mesh.now);
    mesh.server.receive(requests);
    mesh.publish();
    assert_eq!(mesh.server.subscribed.len(), 2, "what the node itself needs");
    assert!(mesh.clusters().is_empty());
    assert_eq!(mesh.machine.authorities(), 0);
    mesh.bring_up();
    assert_eq!(mesh.clusters(), [F], "and comes back when it is called again");
}

#[test]
fn a_route_waits_for_its_new_cluster_and_the_old_one_serves_meanwhile() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.send(route(F, &[G]));
    assert_eq!(mesh.forwards_to(), [F]);
    assert!(mesh.server.subscribed.contains(&(Kind::Cluster, F.to_owned())), "the old one is still in use");
    mesh.send(cluster(G, 5));
    assert_eq!(mesh.forwards_to(), [F], "without endpoints it is of no use");
    mesh.send(endpoints(G, 2));
    assert_eq!(mesh.forwards_to(), [G]);
    assert!(!mesh.server.subscribed.contains(&(Kind::Cluster, F.to_owned())), "given up after the switch");
    assert!(!mesh.server.subscribed.contains(&(Kind::Endpoints, F.to_owned())));
}

#[test]
fn nothing_is_waited_for_for_ever() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.send(route(F, &[G]));
    mesh.pass(WARMING_LIMIT - Duration::from_millis(1));
    assert_eq!(mesh.forwards_to(), [F]);
    assert_eq!(mesh.machine.deadline(mesh.now), Some(mesh.now + Duration::from_millis(1)));
    mesh.pass(Duration::from_millis(1));
    assert_eq!(mesh.forwards_to(), [G]);

    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.send(route(F, &[G]));
    mesh.machine.disconnect();
    mesh.now += WARMING_LIMIT * 10;
    assert!(mesh.machine.publish(mesh.now).is_none(), "without a stream nothing could have come");
    assert_eq!(mesh.machine.deadline(mesh.now), None);
}

#[test]
fn a_process_that_stood_still_waits_again() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.send(route(F, &[G]));
    let due = mesh.machine.deadline(mesh.now).unwrap();
    mesh.now += WARMING_LIMIT * 10;
    mesh.machine.excuse(due, mesh.now);
    assert!(mesh.machine.publish(mesh.now).is_none(), "what came meanwhile has not been read");
    mesh.send(cluster(G, 5));
    mesh.pass(WARMING_LIMIT - Duration::from_millis(1));
    assert_eq!(mesh.forwards_to(), [F]);
    mesh.send(endpoints(G, 1));
    assert_eq!(mesh.forwards_to(), [G]);
}

#[test]
fn who_was_never_told_how_to_serve_is_not_settled() {
    let mut mesh = Mesh::new();
    mesh.respond(Kind::Secret, &[], &["ROOTCA"]);
    mesh.want(WEB);
    mesh.now += WARMING_LIMIT * 10;
    assert!(!mesh.machine.is_settled(mesh.now), "its inbound side would refuse whatever is sent to it");
    mesh.send(inbound("inbound:8080"));
    assert!(mesh.machine.is_settled(mesh.now + WARMING_LIMIT), "what its applications call is not waited for for ever");
    let mut mesh = Mesh::new();
    mesh.respond(Kind::Secret, &[], &["ROOTCA"]);
    mesh.respond(Kind::Listener, &[], &["inbound/demo/web-1"]);
    assert!(mesh.machine.is_settled(mesh.now), "it has none, as the control plane says");
}

#[test]
fn a_cluster_that_does_not_exist_is_not_waited_for() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.send(route(F, &[G]));
    mesh.respond(Kind::Cluster, &[], &[G]);
    assert_eq!(mesh.forwards_to(), [G]);
    mesh.send(cluster(G, 5));
    mesh.send(endpoints(G, 2));
    assert_eq!(mesh.clusters(), [G], "the subscription stayed: it can come later");
}

#[test]
fn a_bad_resource_is_refused_by_name_and_the_good_ones_are_used() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.send(route(F, &[F, G]));
    mesh.send(endpoints(G, 2));
    let mut response = mesh.server.response(Kind::Cluster, &[cluster(F, 9), cluster(G, 5)], &[]);
    response.resources[0].resource.as_mut().unwrap().value = vec![0xff; 8];
    let outcome = mesh.machine.response(response, mesh.now);
    assert_eq!((outcome.accepted, outcome.refused.len()), (1, 1));
    assert_eq!(&*outcome.refused[0].0, F);
    mesh.server.receive(outcome.requests);
    let (nonce, error) = mesh.server.acks.last().unwrap().clone();
    assert_eq!(nonce, mesh.server.nonce.to_string());
    assert!(error.unwrap().contains(F));
    mesh.publish();
    mesh.send(endpoints(G, 2));
    assert_eq!(mesh.clusters(), [G, F], "the last good one stays, the new one is used");
    assert_eq!(mesh.machine.refused().count(), 1);
    mesh.send(cluster(F, 10));
    assert_eq!(mesh.machine.refused().count(), 0);
}

#[test]
fn a_resource_under_a_wrong_name_or_type_is_refused() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    let mut response = mesh.server.response(Kind::Cluster, &[cluster(G, 5)], &[]);
    response.resources[0].name = F.into();
    assert_eq!(mesh.machine.response(response, mesh.now).refused.len(), 1);
    let mut response = mesh.server.response(Kind::Cluster, &[cluster(F, 6)], &[]);
    response.resources[0].resource.as_mut().unwrap().type_url = xds::type_url(Kind::Route).into();
    assert_eq!(mesh.machine.response(response, mesh.now).refused.len(), 1);
    let response = DeltaDiscoveryResponse { type_url: "x".into(), nonce: "n".into(), ..Default::default() };
    let outcome = mesh.machine.response(response, mesh.now);
    assert!(outcome.requests[0].error_detail.is_some());
    assert_eq!(mesh.machine.raw().filter(|r| r.kind == Kind::Cluster).count(), 1);
}

#[test]
fn what_was_not_asked_for_is_no_fault_and_of_no_use() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    let outcome = mesh.send(cluster(G, 5));
    assert_eq!((outcome.accepted, outcome.refused.len()), (0, 0));
    let mut heartbeat = mesh.server.response(Kind::Cluster, &[cluster(F, 5)], &[]);
    heartbeat.resources[0].resource = None;
    assert_eq!(mesh.machine.response(heartbeat, mesh.now).accepted, 0);
    assert_eq!(mesh.clusters(), [F]);
}

#[test]
fn the_same_version_again_changes_nothing() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    let before = mesh.published.take();
    let outcome = mesh.send(cluster(F, 5));
    assert_eq!(outcome.accepted, 0);
    mesh.send(endpoints(F, 1));
    assert!(mesh.published.is_none() && before.is_some());
    mesh.send(cluster(F, 6));
    assert!(mesh.published.is_some());
}

#[test]
fn a_new_stream_begins_with_everything_and_the_versions_held() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    mesh.machine.disconnect();
    assert_eq!(mesh.machine.want(&"late:1".into(), mesh.now).unwrap(), [], "noted, to be asked with the next stream");
    mesh.connect();
    assert!(mesh.server.subscribed.contains(&(Kind::Listener, "late:1".to_owned())));
    let held: BTreeSet<_> = mesh.server.initial.keys().map(|(k, _)| *k).collect();
    assert_eq!(held, [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Route].into());
    let version = xds::version_of(&xds::encode(&cluster(F, 5), Class::Sidecar));
    assert_eq!(mesh.server.initial[&(Kind::Cluster, F.to_owned())], version);
    mesh.publish();
    assert_eq!(mesh.clusters(), [F], "what was in use stays in use");
}

#[test]
fn an_unknown_authority_is_absent_until_it_appears_or_is_forgotten() {
    let mut mesh = Mesh::new();
    mesh.want("nowhere:80");
    mesh.respond(Kind::Listener, &[], &["nowhere:80"]);
    assert_eq!(mesh.absent, ["nowhere:80".into()].into());
    mesh.send(listener("nowhere:80", F));
    mesh.send(route(F, &[F]));
    mesh.send(cluster(F, 5));
    mesh.send(endpoints(F, 1));
    assert!(mesh.absent.is_empty() && mesh.published.as_ref().unwrap().listeners.contains_key("nowhere:80"));
    mesh.respond(Kind::Listener, &[], &["nowhere:80"]);
    assert!(mesh.published.as_ref().unwrap().listeners.is_empty());
    mesh.now += ABSENT_FOR;
    let requests = mesh.machine.tidy(mesh.now);
    mesh.server.receive(requests);
    mesh.publish();
    assert!(mesh.absent.is_empty());
    assert_eq!(mesh.machine.authorities(), 0);
}

#[test]
fn the_inbound_listener_and_its_clusters_come_by_themselves() {
    let mut mesh = Mesh::new();
    mesh.send(inbound("inbound:8080"));
    assert!(mesh.server.subscribed.contains(&(Kind::Cluster, "inbound:8080".to_owned())));
    mesh.send(cluster("inbound:8080", 5));
    mesh.send(endpoints("inbound:8080", 1));
    assert!(mesh.published.as_ref().unwrap().listeners.contains_key("inbound/demo/web-1"));
    assert_eq!(mesh.machine.forget(&"inbound/demo/web-1".into(), mesh.now), [], "it cannot be forgotten");
    assert!(mesh.machine.want(&"inbound/demo/other".into(), mesh.now).is_none(), "nor can another's be asked for");
}

#[test]
fn authorities_are_bounded_and_the_absent_make_room() {
    let mut mesh = Mesh::new();
    for i in 0..MAX_AUTHORITIES {
        mesh.machine.want(&format!("a{i}:80").into(), mesh.now).unwrap();
    }
    assert!(mesh.machine.want(&"more:80".into(), mesh.now).is_none());
    let response = mesh.server.response(Kind::Listener, &[], &["a7:80"]);
    mesh.machine.response(response, mesh.now);
    assert!(mesh.machine.want(&"more:80".into(), mesh.now).is_some());
    assert_eq!(mesh.machine.authorities(), MAX_AUTHORITIES);
    // The world outside makes room too: an application may call all of it.
    let outside = listener("a8:80", PASSTHROUGH);
    let response = mesh.server.response(Kind::Listener, &[outside], &[]);
    mesh.machine.response(response, mesh.now);
    assert!(mesh.machine.want(&"still-more:80".into(), mesh.now).is_some());
    assert!(mesh.machine.want(&"too-much:80".into(), mesh.now).is_none());
    for bad in ["", "a b", &"x".repeat(MAX_NAME + 1)] {
        assert!(mesh.machine.want(&bad.into(), mesh.now).is_none());
    }
}

#[test]
fn what_was_kept_is_used_before_the_control_plane_answers() {
    let mut mesh = Mesh::new();
    mesh.bring_up();
    let mut kept: Vec<_> = mesh.machine.raw().collect();
    kept.push(Raw { kind: Kind::Cluster, name: "damaged".into(), version: "1".into(), body: vec![0xff; 9].into() });
    let roots = [(Kind::Listener, "inbound/demo/web-1".into()), (Kind::Secret, "ROOTCA".into())];
    let mut machine = Machine::new(Node::default(), roots, mesh.now);
    machine.restore(kept, mesh.now);
    let published = machine.publish(mesh.now).unwrap();
    assert_eq!(published.resources, mesh.published.clone().unwrap());
    assert_eq!(machine.authorities(), 1);
    let first = machine.connect(mesh.now);
    assert_eq!(first.iter().map(|r| r.initial_resource_versions.len()).sum::<usize>(), 4);
}

/// Random orders of everything that can happen; `check` holds after every step.
#[test]
fn whatever_the_order_both_sides_agree_and_nothing_dangles() {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    for seed in 0..200 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut mesh = Mesh::new();
        let names = ["a:1", "b:2", "c:3"];
        let pick = |random: &mut SmallRng| names[random.random_range(0..names.len())];
        for _ in 0..60 {
            let (name, other) = (pick(&mut random), pick(&mut random));
            match random.random_range(0..12) {
                0 | 1 => drop(mesh.want(name)),
                2 => {
                    let requests = mesh.machine.forget(&name.into(), mesh.now);
                    mesh.server.receive(requests);
                    mesh.publish();
                }
                // A control plane answers only what was asked for on this stream.
                3..=9 if mesh.server.first_seen.len() < Kind::ALL.len() => mesh.bring_up(),
                3 | 4 => drop(mesh.send(listener(name, other))),
                5 | 6 => drop(mesh.send(route(name, &[other, name]))),
                7 => drop(mesh.send(cluster(name, random.random_range(1..4)))),
                8 => drop(mesh.send(endpoints(name, random.random_range(1..4)))),
                9 => {
                    let kind = Kind::ALL[random.random_range(1..Kind::ALL.len())];
                    mesh.respond(kind, &[], &[name]);
                }
                10 => mesh.pass(Duration::from_secs(random.random_range(0..20))),
                _ => {
                    mesh.machine.disconnect();
                    mesh.connect();
                }
            }
        }
    }
}
