//! What the cluster says, and what becomes of it: pods, slices, broken objects, a server that is away.

use super::{House, eventually, fresh, key};
use crate::store::{Batch, Change, Error, Expect, Kubernetes, Store, conformance::service};
use std::sync::Arc;
use weir_config::resources::{Document, Key, Kind};

const POD: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: demo}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: demo, labels: {app: web}}
spec:
  serviceAccountName: web
  terminationGracePeriodSeconds: 30
  nodeName: node-1
  containers:
    - {name: web, image: 'web:1', ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}
    - {name: weir-proxy, image: 'weir:1'}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: demo}
spec: {ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: outside-1, namespace: demo, labels: {kubernetes.io/service-name: outside}}
addressType: IPv4
ports: [{name: sql, port: 15432, protocol: TCP}]
endpoints: [{addresses: [192.0.2.7], zone: b}, {addresses: [192.0.2.8], conditions: {ready: false}}]
";

fn workload(store: &Kubernetes, name: &str) -> Option<weir_config::resources::Workload> {
    match &*store.get(&Key::new(Kind::Workload, "demo", name))?.document {
        Document::Workload(o) => Some(o.spec.clone()),
        _ => None,
    }
}

fn status(house: &House, ready: &str) {
    let status = format!(
        r#"{{"status":{{"phase":"Running","podIP":"10.1.0.5","podIPs":[{{"ip":"10.1.0.5"}}],"conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
    );
    house.kubectl(&["patch", "pod", "web-1", "-n", "demo", "--subresource=status", "--type=merge", "-p", &status]);
}

#[test]
fn pods_and_slices_are_instances_of_services() {
    use weir_config::model::Health;
    let Some(house) = House::new() else { return };
    let store = house.open();
    house.apply(POD);
    eventually("the service", || store.get(&key("web")).is_some());
    assert!(workload(&store, "web-1").is_none(), "without an address it is nowhere");
    status(&house, "False");
    eventually("the instance", || workload(&store, "web-1").is_some());
    let pod = workload(&store, "web-1").unwrap();
    assert_eq!((pod.address.to_string().as_str(), pod.health), ("10.1.0.5", Health::Unhealthy));
    assert_eq!((pod.service_account.as_str(), pod.sidecar.is_some()), ("web", true));
    assert_eq!(pod.ports.iter().map(|p| (p.name.as_str(), p.port)).collect::<Vec<_>>(), [("http", 8080)]);
    status(&house, "True");
    eventually("it is ready", || workload(&store, "web-1").is_some_and(|w| w.health == Health::Healthy));
    // A status that says the same again is no change of the mesh.
    let version = store.snapshot().version();
    house.kubectl(&["annotate", "pod", "web-1", "-n", "demo", "note=1"]);
    house.kubectl(&[
        "patch",
        "pod",
        "web-1",
        "-n",
        "demo",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"message":"x"}}"#,
    ]);
    // A pod that ends keeps what it has, and gets no more.
    house.kubectl(&["delete", "pod", "web-1", "-n", "demo", "--wait=false"]);
    eventually("it ends", || workload(&store, "web-1").is_some_and(|w| w.health == Health::Draining));
    let steps = store.get(&Key::new(Kind::Workload, "demo", "web-1")).unwrap();
    assert!(steps.resource_version > version);
    house.kubectl(&["delete", "pod", "web-1", "-n", "demo", "--force", "--grace-period=0"]);
    eventually("it is gone", || workload(&store, "web-1").is_none());

    let Document::Service(outside) = (*store.get(&key("outside")).unwrap().document).clone() else { panic!() };
    let behind: Vec<_> = store.list(Kind::Workload, Some("demo")).1;
    let mut said: Vec<_> = behind
        .iter()
        .filter(|w| outside.spec.selects(&w.document.metadata().labels))
        .filter_map(|w| workload(&store, w.document.name()))
        .map(|w| (w.address.to_string(), w.health, w.zone.clone(), w.target(&outside.spec.ports[0].target)))
        .collect();
    said.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        said,
        [
            ("192.0.2.7".into(), Health::Healthy, "b".into(), Some(15432)),
            ("192.0.2.8".into(), Health::Unhealthy, String::new(), Some(15432)),
        ]
    );
    // What a slice says is changed there.
    let put = Change::Delete { key: behind[0].document.key(), expect: Expect::Any };
    assert!(matches!(store.apply(&put.into()), Err(Error::Invalid(_))));
    house.kubectl(&["delete", "endpointslice", "outside-1", "-n", "demo"]);
    eventually("they are gone", || store.list(Kind::Workload, Some("demo")).1.is_empty());
}

fn route(path: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: demo}}\n\
         spec:\n  parentRefs: [{{kind: Service, group: '', name: web, port: 80}}]\n  \
         rules: [{{matches: [{{path: {{type: RegularExpression, value: '{path}'}}}}]}}]\n"
    )
}

#[test]
fn a_broken_object_stops_nobody_and_its_last_good_version_stays() {
    let Some(house) = House::new() else { return };
    let store = house.open();
    let refused = store.refused();
    store.apply(&fresh(service("web", 80))).unwrap();
    house.apply(&route("/a.*"));
    let web = Key::new(Kind::HttpRoute, "demo", "web");
    eventually("the route", || store.get(&web).is_some());
    let good = store.get(&web).unwrap();
    house.apply(&route("/a("));
    eventually("it is refused", || refused.borrow().contains_key(&web));
    let said = refused.borrow()[&web].issues[0].to_string();
    assert!(said.contains("spec.rules[0].matches[0].path.value") && said.contains("regular expression"), "{said}");
    store.apply(&fresh(service("api", 80))).unwrap();
    assert_eq!(store.get(&web).as_deref(), Some(&*good), "its last good version stays");
    house.apply(&route("/b.*"));
    eventually("it is mended", || refused.borrow().is_empty());
    eventually("and new", || store.get(&web).is_some_and(|s| s.generation == 3));

    // What another way made fit for nothing is no reason to refuse what has nothing to do with it.
    house.kubectl(&["delete", "service", "web", "-n", "demo"]);
    eventually("the route leads nowhere", || store.get(&key("web")).is_none());
    store.apply(&fresh(service("more", 80))).unwrap();
    let worse = weir_config::resources::parse("t", &route("/c.*").replace("name: web,", "name: other,")).unwrap();
    assert!(matches!(store.apply(&Batch::put_all(worse)), Err(Error::Invalid(_))), "a new fault is a fault");
}

#[test]
fn what_is_known_stays_while_the_server_is_away_and_everything_comes_after() {
    let Some(mut house) = House::new() else { return };
    let store = house.open();
    store.apply(&fresh(service("web", 80))).unwrap();
    let before = store.snapshot();
    house.cluster.kill_api();
    let failed = store.apply(&Change::Put { document: Arc::new(service("web", 81)), expect: Expect::Any }.into());
    assert!(matches!(failed, Err(Error::Server { .. } | Error::Unknown { .. })), "{failed:?}");
    assert!(Arc::ptr_eq(&before, &store.snapshot()), "what is known stays");
    house.runtime.block_on(house.cluster.start_api());
    house.kubectl(&["delete", "service", "web", "-n", "demo"]);
    house.apply(&service("later", 80).to_yaml());
    eventually("what happened since is seen", || {
        store.get(&key("later")).is_some() && store.get(&key("web")).is_none()
    });
    store.apply(&fresh(service("again", 80))).unwrap();
}
