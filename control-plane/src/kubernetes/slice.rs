//! EndpointSlices: where pods are, and who stands behind a service that has no selector.

use super::{
    Known, Meaning, Name,
    objects::{Endpoint, EndpointSlice, label},
    pod, read,
};
use serde_json::json;
use std::collections::BTreeMap;
use weir_config::resources::{Key, Kind};

/// The service that a slice is of.
const SERVICE: &str = "kubernetes.io/service-name";

/// What is kept of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the API server knows of it.
    pub known: Known,
    /// The service that it is of.
    pub service: Name,
    /// The zone of each pod in it.
    pub pods: BTreeMap<String, Option<String>>,
    /// Those in it that are no pods.
    pub others: Vec<Other>,
    /// The numbers behind the service's ports, by their names.
    pub ports: BTreeMap<String, u16>,
}

/// An endpoint that is no pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    address: String,
    health: &'static str,
    zone: Option<String>,
}

/// `None`: it is of no service.
pub fn seen(slice: &EndpointSlice) -> Option<Seen> {
    let name = Name::of(&slice.metadata);
    let service = Name::new(&name.namespace, label(&slice.metadata, SERVICE)?);
    let (mut pods, mut others) = (BTreeMap::new(), Vec::new());
    for endpoint in slice.endpoints.iter().flatten() {
        let target = endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod"));
        match (target.and_then(|t| t.name.clone()), endpoint.addresses.first()) {
            (Some(pod), _) => drop(pods.insert(pod, endpoint.zone.clone())),
            (None, Some(address)) => {
                others.push(Other { address: address.clone(), health: health(endpoint), zone: endpoint.zone.clone() });
            }
            (None, None) => {}
        }
    }
    let tcp = slice.ports.iter().flatten().filter(|p| p.protocol.as_deref().is_none_or(|p| p == "TCP"));
    let ports = tcp.filter_map(|p| Some((p.name.clone().unwrap_or_default(), p.port?))).collect();
    Some(Seen { known: Known::of(&slice.metadata), service, pods, others, ports })
}

/// The documents of those that are no pods, for a service without a selector.
pub fn meanings(name: &Name, seen: &Seen) -> Vec<(Key, Meaning)> {
    let one = |other: &Other| {
        // An address occurs once in a slice, and is the name that stays.
        let suffix: String = other.address.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let label = format!("{}{}", pod::BEHIND, seen.service.name);
        let key = Key::new(Kind::Workload, &name.namespace, &format!("{}-{suffix}x", name.name));
        let mut spec = json!({ "address": other.address, "health": other.health, "sidecar": { "disabled": true } });
        if let Some(zone) = other.zone.as_deref().filter(|z| !z.is_empty()) {
            spec["zone"] = json!(zone);
        }
        let meaning = read(&key, json!({ label: "" }), pod::from("EndpointSlice"), spec);
        (key, meaning)
    };
    seen.others.iter().map(one).collect()
}

/// Ready is what gets requests; serving and terminating is what keeps those that it has.
fn health(endpoint: &Endpoint) -> &'static str {
    let conditions = &endpoint.conditions;
    match (conditions.ready.unwrap_or(true), conditions.terminating.unwrap_or(false)) {
        (true, false) => "Healthy",
        (_, true) if conditions.serving.unwrap_or(true) => "Draining",
        _ => "Unhealthy",
    }
}
