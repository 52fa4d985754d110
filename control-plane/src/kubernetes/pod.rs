//! A Pod as the mesh sees it: an instance with an address, labels, an identity, a place, and whether it gets requests.

use super::{
    FROM, Known, Meaning, Name,
    objects::{Container, Pod, label},
    read,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use weir_config::resources::{Key, Kind};

/// The container of a sidecar of ours.
pub const SIDECAR: &str = "weir-proxy";
/// Where a pod runs, as Kubernetes labels pods (from 1.35 on) and nodes.
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// The label by which a service without a selector finds who stands behind it: this, and the service's name.
pub const BEHIND: &str = "service.weir.dev/";

/// What is kept of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the API server knows of it.
    pub known: Known,
    address: String,
    account: String,
    labels: BTreeMap<String, String>,
    ports: Vec<(String, u16)>,
    health: &'static str,
    sidecar: bool,
    region: String,
    zone: String,
    node: String,
}

/// `None`: it is no instance, not yet or not any more.
pub fn seen(pod: &Pod) -> Option<Seen> {
    let ended = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let address = pod.status.address.clone().filter(|a| !ended && !a.is_empty())?;
    let (metadata, spec) = (&pod.metadata, &pod.spec);
    let place = |name| label(metadata, name).unwrap_or_default().to_owned();
    let ours = |all: &[Container]| all.iter().any(|c| c.name == SIDECAR);
    Some(Seen {
        known: Known::of(metadata),
        address,
        account: spec.service_account_name.clone().filter(|a| !a.is_empty()).unwrap_or_else(|| "default".into()),
        labels: metadata.labels.clone().unwrap_or_default(),
        ports: ports(&spec.containers),
        health: health(pod),
        // What shares its node's addresses is never captured, whatever stands in its spec.
        sidecar: !spec.host_network && (ours(&spec.containers) || ours(&spec.init_containers)),
        region: place(REGION),
        zone: place(ZONE),
        node: spec.node_name.clone().unwrap_or_default(),
    })
}

/// What EndpointSlices say of a pod.
#[derive(Debug, Default)]
pub struct Said<'a> {
    /// The services without a selector that it stands behind.
    pub behind: BTreeSet<&'a str>,
    /// Where it is, where it does not say so itself.
    pub zone: Option<&'a str>,
    /// For whom it is meant, by service.
    pub hints: BTreeMap<&'a str, Value>,
}

/// The document.
pub fn meaning(name: &Name, seen: &Seen, said: Said<'_>) -> Meaning {
    let mut labels = seen.labels.clone();
    labels.extend(said.behind.iter().map(|service| (format!("{BEHIND}{service}"), String::new())));
    let ports: Vec<_> = seen.ports.iter().map(|(name, port)| json!({ "name": name, "port": port })).collect();
    let mut spec = json!({
        "address": seen.address,
        "serviceAccount": seen.account,
        "ports": ports,
        "health": seen.health,
    });
    let zone = if seen.zone.is_empty() { said.zone.unwrap_or_default() } else { &seen.zone };
    for (field, value) in [("region", &*seen.region), ("zone", zone), ("node", &seen.node)] {
        if !value.is_empty() {
            spec[field] = json!(value);
        }
    }
    if !said.hints.is_empty() {
        spec["hints"] = said.hints.into_values().collect();
    }
    if !seen.sidecar {
        spec["sidecar"] = json!({ "disabled": true });
    }
    read(&key(name), json!(labels), from("Pod"), spec)
}

/// The key of a pod's document.
pub fn key(name: &Name) -> Key {
    Key { kind: Kind::Workload, namespace: name.namespace.clone(), name: name.name.clone() }
}

pub(super) fn from(kind: &str) -> Value {
    json!({ FROM: kind })
}

/// The named TCP ports of all containers; of two with one name or number, the first.
fn ports(containers: &[Container]) -> Vec<(String, u16)> {
    let mut found: Vec<(String, u16)> = Vec::new();
    for port in containers.iter().flat_map(|c| &c.ports) {
        let tcp = port.protocol.as_deref().is_none_or(|p| p == "TCP");
        let Some(name) = port.name.as_ref().filter(|n| tcp && !n.is_empty() && port.container_port > 0) else {
            continue;
        };
        if found.iter().all(|(other, number)| other != name && *number != port.container_port) {
            found.push((name.clone(), port.container_port));
        }
    }
    found
}

/// Requests go to what is ready; what ends keeps those that it has.
fn health(pod: &Pod) -> &'static str {
    if pod.metadata.deletion_timestamp.is_some() {
        return "Draining";
    }
    let ready = pod.status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
    if ready { "Healthy" } else { "Unhealthy" }
}
