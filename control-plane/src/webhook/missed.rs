//! Pods that should have a sidecar and have none: made while the webhook was away, before their namespace asked for
//! sidecars, or before there was a mesh at all. They are found and told; a new one is made when its owner says so.

use super::known::{Known, is_enabled};
use crate::inject::{self, Given, Namespace, Outcome, Settings, Version};
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// More are counted, not listed.
pub const MOST_LISTED: usize = 1000;
/// More than these are not remembered.
const MOST_KEPT: usize = 20_000;

/// The pods without a sidecar that are known, and of those the ones that should have one.
#[derive(Debug, Clone, Default)]
pub struct Missed {
    pods: Arc<Mutex<BTreeMap<(String, String), Value>>>,
}

impl Missed {
    pub(super) fn put(&self, pod: Value) {
        let key = key(&pod);
        let mut pods = self.pods.lock();
        if pods.len() < MOST_KEPT || pods.contains_key(&key) {
            pods.insert(key, what_counts(pod));
        }
    }

    pub(super) fn remove(&self, pod: &Value) {
        self.pods.lock().remove(&key(pod));
    }

    pub(super) fn clear(&self) {
        self.pods.lock().clear();
    }

    /// `namespace/name` of those that should have one, the first of them; and how many there are in all.
    pub fn list(&self, known: &Known, settings: &Settings, cluster: Version) -> (Vec<String>, usize) {
        let (mut listed, mut all) = (vec![], 0);
        for ((namespace, name), pod) in &*self.pods.lock() {
            let Some(namespace) = known.get(namespace) else { continue };
            if !is_missed(pod, &namespace, settings, cluster) {
                continue;
            }
            all += 1;
            if listed.len() < MOST_LISTED {
                listed.push(format!("{}/{name}", namespace.name));
            }
        }
        (listed, all)
    }
}

/// Whether a pod would get a sidecar, were it made now.
pub fn is_missed(pod: &Value, namespace: &Namespace, settings: &Settings, cluster: Version) -> bool {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if ended || !pod["metadata"]["deletionTimestamp"].is_null() {
        return false;
    }
    let asked = is_enabled(namespace) || pod["metadata"]["labels"][inject::INJECT] == "enabled";
    let given = Given { pod, namespace, cluster, settings, asked_for: false };
    asked && matches!(inject::inject(&given), Outcome::Injected(_) | Outcome::Refused(_))
}

fn key(pod: &Value) -> (String, String) {
    let of = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    (of("namespace"), of("name"))
}

/// What a decision depends on; the rest of a pod is much more.
fn what_counts(mut pod: Value) -> Value {
    if let Value::Object(metadata) = &mut pod["metadata"] {
        metadata.remove("managedFields");
        metadata.remove("ownerReferences");
    }
    if let Value::Object(status) = &mut pod["status"] {
        status.retain(|key, _| key == "phase");
    }
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            if let Value::Object(container) = container {
                container.retain(|key, _| ["name", "ports", "securityContext", "command"].contains(&&**key));
            }
        }
    }
    pod
}
