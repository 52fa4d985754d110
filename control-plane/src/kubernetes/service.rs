//! A Service of the cluster. It is read leniently: what Weir does not carry (UDP, session affinity) is left
//! out, for the rest of the service works as before. An operator's own document is read strictly all the same.

use super::{Meaning, Name, annotations, labels, pod, read};
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use weir_config::resources::{Key, Kind};

/// The words of `appProtocol` that the reader knows. Of another one nothing is known: it is detected.
const PROTOCOLS: [&str; 9] =
    ["http", "kubernetes.io/h2c", "grpc", "tcp", "http2", "h2c", "kubernetes.io/ws", "https", "tls"];

/// The words of `trafficDistribution` that the reader knows. Another one is a wish that is not heard.
const DISTRIBUTIONS: [&str; 3] = ["PreferSameZone", "PreferSameNode", "PreferClose"];

/// Whether the object says everything; otherwise EndpointSlices say who stands behind it.
pub fn is_whole(object: &DynamicObject) -> bool {
    object.data.get("spec").is_some_and(is_alias) || selects(object)
}

/// Whether it is another name of something.
fn is_alias(spec: &Value) -> bool {
    spec.get("type").and_then(Value::as_str) == Some("ExternalName")
}

/// Whether its pods are found by labels.
fn selects(object: &DynamicObject) -> bool {
    object.data.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|labels| !labels.is_empty())
}

/// The document. `ports`: for a service without a selector, the numbers behind its ports.
pub fn meaning(object: &DynamicObject, ports: &BTreeMap<String, u16>) -> Meaning {
    let name = Name::of(&object.metadata);
    let Some(Value::Object(spec)) = object.data.get("spec") else { return Meaning::Nothing };
    let all = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        let tcp: Vec<Value> = all.filter_map(|port| self::port(port, None)).collect();
        let mut kept = json!({ "type": "ExternalName", "externalName": spec.get("externalName") });
        if !tcp.is_empty() {
            kept["ports"] = json!(tcp);
        }
        return read(&key(&name), labels(&object.metadata), annotations(&object.metadata), kept);
    }
    let selector = match spec.get("selector") {
        Some(Value::Object(labels)) if !labels.is_empty() => json!(labels),
        _ => json!({ format!("{}{}", pod::BEHIND, name.name): "" }),
    };
    let behind = (!selects(object)).then_some(ports);
    let tcp: Vec<Value> = all.filter_map(|port| self::port(port, behind)).collect();
    if tcp.is_empty() {
        return Meaning::Nothing;
    }
    let mut kept = Map::new();
    kept.insert("selector".into(), selector);
    kept.insert("ports".into(), json!(tcp));
    for field in ["clusterIP", "clusterIPs"] {
        if let Some(value) = spec.get(field) {
            kept.insert(field.into(), value.clone());
        }
    }
    let distribution = spec.get("trafficDistribution");
    if let Some(value) = distribution.filter(|d| d.as_str().is_some_and(|d| DISTRIBUTIONS.contains(&d))) {
        kept.insert("trafficDistribution".into(), value.clone());
    }
    read(&key(&name), labels(&object.metadata), annotations(&object.metadata), Value::Object(kept))
}

/// The key of a service's document.
pub fn key(name: &Name) -> Key {
    Key { kind: Kind::Service, namespace: name.namespace.clone(), name: name.name.clone() }
}

/// A TCP port, with what is known of it. `behind`: the numbers behind the ports of a service without a selector, whose own
/// `targetPort` means nothing.
fn port(port: &Value, behind: Option<&BTreeMap<String, u16>>) -> Option<Value> {
    if port.get("protocol").and_then(Value::as_str).is_some_and(|p| p != "TCP") {
        return None;
    }
    let mut kept = Map::new();
    for field in ["name", "port", "targetPort"] {
        if let Some(value) = port.get(field) {
            kept.insert(field.into(), value.clone());
        }
    }
    let spoken = port.get("appProtocol").filter(|p| p.as_str().is_some_and(|p| PROTOCOLS.contains(&p)));
    if let Some(spoken) = spoken {
        kept.insert("appProtocol".into(), spoken.clone());
    }
    let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
    if let Some(number) = behind.and_then(|numbers| numbers.get(name)) {
        kept.insert("targetPort".into(), json!(number));
    }
    Some(Value::Object(kept))
}
