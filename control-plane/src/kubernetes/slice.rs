//! EndpointSlices: where pods are, and who stands behind a service that has no selector.

use super::{
    Known, Meaning, Name,
    objects::{Endpoint, EndpointSlice, Named, label},
    pod, read,
};
use serde_json::{Value, json};
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
    /// Where each pod in it is, and for whom.
    pub pods: BTreeMap<String, Place>,
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
    place: Place,
    node: Option<String>,
}

/// Where an endpoint is, and for whom it is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its zone.
    pub zone: Option<String>,
    /// For whom; nothing where nobody has said it.
    hints: Option<Box<Hints>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Hints {
    zones: Vec<String>,
    nodes: Vec<String>,
}

impl Place {
    fn of(endpoint: &Endpoint) -> Self {
        let names = |all: &Option<Vec<Named>>| all.iter().flatten().map(|n| n.name.clone()).collect::<Vec<_>>();
        let hints = endpoint.hints.as_ref().map(|h| Hints { zones: names(&h.for_zones), nodes: names(&h.for_nodes) });
        let hints = hints.filter(|h| !h.zones.is_empty() || !h.nodes.is_empty()).map(Box::new);
        Self { zone: endpoint.zone.clone(), hints }
    }

    /// The hint as a Workload of this service says it.
    pub fn hint(&self, service: &str) -> Option<Value> {
        let Hints { zones, nodes } = &**self.hints.as_ref()?;
        Some(json!({ "service": service, "zones": zones, "nodes": nodes }))
    }
}

/// `None`: it is of no service.
pub fn seen(slice: &EndpointSlice) -> Option<Seen> {
    let name = Name::of(&slice.metadata);
    let service = Name::new(&name.namespace, label(&slice.metadata, SERVICE)?);
    let (mut pods, mut others) = (BTreeMap::new(), Vec::new());
    for endpoint in slice.endpoints.iter().flatten() {
        let target = endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod"));
        match (target.and_then(|t| t.name.clone()), endpoint.addresses.first()) {
            (Some(pod), _) => drop(pods.insert(pod, Place::of(endpoint))),
            (None, Some(address)) => {
                let (address, node) = (address.clone(), endpoint.node_name.clone());
                others.push(Other { address, health: health(endpoint), place: Place::of(endpoint), node });
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
        for (field, value) in [("zone", &other.place.zone), ("node", &other.node)] {
            if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
                spec[field] = json!(value);
            }
        }
        if let Some(hint) = other.place.hint(&seen.service.name) {
            spec["hints"] = json!([hint]);
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
