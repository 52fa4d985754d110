//! A Service of the cluster. It is read leniently: what Weir does not carry (UDP, session affinity, external names) is left
//! out, for the rest of the service works as before. An operator's own document is read strictly all the same.

use super::{Meaning, Name, annotations, labels, pod, read};
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use weir_config::resources::{Key, Kind};

/// The words of `appProtocol` that the reader knows. Of another one nothing is known: it is detected.
const PROTOCOLS: [&str; 9] =
    ["http", "kubernetes.io/h2c", "grpc", "tcp", "http2", "h2c", "kubernetes.io/ws", "https", "tls"];

/// Whether its pods are found by labels; otherwise EndpointSlices say who stands behind it.
pub fn selects(object: &DynamicObject) -> bool {
    object.data.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|labels| !labels.is_empty())
}

/// The document. `ports`: for a service without a selector, the numbers behind its ports.
pub fn meaning(object: &DynamicObject, ports: &BTreeMap<String, u16>) -> Meaning {
    let name = Name::of(&object.metadata);
    let Some(Value::Object(spec)) = object.data.get("spec") else { return Meaning::Nothing };
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        return Meaning::Nothing;
    }
    let selector = match spec.get("selector") {
        Some(Value::Object(labels)) if !labels.is_empty() => json!(labels),
        _ => json!({ format!("{}{}", pod::BEHIND, name.name): "" }),
    };
    let all = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
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
