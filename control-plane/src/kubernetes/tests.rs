//! Objects of the cluster as the API server writes them, and what they mean.

use super::{Meaning, Name, objects, pod, service, slice};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir_config::resources::{Distribution, Document, Service, Workload};

fn service_of(spec: &Value) -> Result<Service, String> {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "db", "namespace": "demo" }, "spec": spec,
    }))
    .unwrap();
    match service::meaning(&object, &BTreeMap::new()) {
        Meaning::Document(document) => match *document {
            Document::Service(o) => Ok(o.spec),
            other => panic!("{other:?}"),
        },
        Meaning::Refused(issues) => Err(issues.iter().map(ToString::to_string).collect()),
        Meaning::Nothing => Err("nothing".into()),
    }
}

fn workload(meaning: &Meaning) -> &Workload {
    match meaning {
        Meaning::Document(document) => match &**document {
            Document::Workload(o) => &o.spec,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn slice_of(endpoints: &Value) -> slice::Seen {
    let object: objects::EndpointSlice = serde_json::from_value(json!({
        "metadata": { "name": "db-1", "namespace": "demo", "labels": { "kubernetes.io/service-name": "db" } },
        "addressType": "IPv4", "ports": [{ "port": 5432 }], "endpoints": endpoints,
    }))
    .unwrap();
    slice::seen(&object).unwrap()
}

#[test]
fn another_name_is_read_and_what_is_no_name_is_refused_with_a_remedy() {
    let alias = |name: &str| json!({ "type": "ExternalName", "externalName": name, "sessionAffinity": "None" });
    let read = |name: &str| service_of(&alias(name));
    let found = read("db.example.com.").unwrap();
    assert_eq!((found.external_name.as_deref(), found.ports.len()), (Some("db.example.com"), 0));
    let mut with = alias("db.example.com");
    with["ports"] = json!([{ "port": 53, "protocol": "UDP" }, { "port": 80, "protocol": "TCP", "name": "http" }]);
    with["selector"] = json!({ "app": "nobody" });
    let with = service_of(&with).unwrap();
    assert_eq!((with.ports.len(), with.ports[0].port, with.selector.len()), (1, 80, 0));
    for (bad, why) in [
        ("192.0.2.1", "spec.externalName: `192.0.2.1` is an address"),
        ("", "spec.externalName: `` is not the full name"),
        ("db", "spec.externalName: `db` is not the full name"),
    ] {
        let said = read(bad).unwrap_err();
        assert!(said.contains(why), "{bad}: {said}");
    }
    let said = service_of(&json!({ "type": "ExternalName" })).unwrap_err();
    assert!(said.contains("spec.externalName"), "{said}");
}

#[test]
fn words_of_distribution_that_nobody_knows_are_wishes_that_are_not_heard() {
    let of = |word: &str| service_of(&json!({ "ports": [{ "port": 80 }], "trafficDistribution": word }));
    assert_eq!(of("PreferSameZone").unwrap().distribution, Some(Distribution::SameZone));
    assert_eq!(of("PreferClose").unwrap().distribution, Some(Distribution::SameZone));
    assert_eq!(of("PreferSameNode").unwrap().distribution, Some(Distribution::SameNode));
    assert_eq!(of("PreferTheMoon").unwrap().distribution, None);
}

#[test]
fn slices_say_for_whom_an_endpoint_is_meant() {
    let hints = json!({ "forZones": [{ "name": "a" }, { "name": "b" }], "forNodes": [{ "name": "n1" }] });
    let seen = slice_of(&json!([
        { "addresses": ["192.0.2.7"], "zone": "c", "nodeName": "n2", "hints": hints },
        { "addresses": ["192.0.2.8"], "hints": null },
        { "addresses": ["10.1.0.5"], "zone": "c", "hints": hints, "targetRef": { "kind": "Pod", "name": "p" } },
        { "addresses": ["10.1.0.6"], "hints": {}, "targetRef": { "kind": "Pod", "name": "q" } },
    ]));
    let name = Name::new("demo", "db-1");
    let meanings = slice::meanings(&name, &seen);
    let (one, two) = (workload(&meanings[0].1), workload(&meanings[1].1));
    let hint = one.hint("db").unwrap();
    assert_eq!((hint.zones.join(","), hint.nodes.join(",")), ("a,b".into(), "n1".into()));
    assert_eq!((one.zone.as_str(), &*one.node), ("c", "n2"));
    assert_eq!((two.hint("db"), two.zone.as_str(), &*two.node), (None, "", ""));
    let hint = seen.pods["p"].hint("db").unwrap();
    assert_eq!(hint, json!({ "service": "db", "zones": ["a", "b"], "nodes": ["n1"] }));
    assert_eq!(seen.pods["q"].hint("db"), None, "nothing is said");

    let object: objects::Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "demo" }, "spec": { "nodeName": "n3", "containers": [] },
        "status": { "phase": "Running", "podIP": "10.1.0.5" },
    }))
    .unwrap();
    let said = pod::Said { zone: Some("c"), hints: BTreeMap::from([("db", hint)]), ..pod::Said::default() };
    let meaning = pod::meaning(&Name::new("demo", "p"), &pod::seen(&object).unwrap(), said);
    let pod = workload(&meaning);
    assert_eq!((pod.zone.as_str(), &*pod.node, pod.hint("db").is_some(), pod.hint("x")), ("c", "n3", true, None));
}
