//! What was added to a pod, written into it, and taken away again by that: `uninject(inject(x))` is `x`.

use super::{
    Given,
    names::{INJECTED, PROGRAMS},
    patch::Patch,
    read::{list, name},
    wishes::{Capture, Wishes},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The environment of the explicit mode.
const TOLD: [&str; 4] = ["HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];
/// For Prometheus.
const SCRAPE: [(&str, &str); 3] =
    [("prometheus.io/scrape", "true"), ("prometheus.io/port", "15020"), ("prometheus.io/path", "/metrics")];

/// The value of the annotation.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    version: String,
    capture: String,
    sidecar: String,
    containers: Vec<String>,
    volumes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<String>,
    /// Containers whose environment names the sidecar.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    told: Vec<String>,
    /// Containers that are told to end a little later.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<String>,
    /// Containers with so many words before their own command.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    wrapped: BTreeMap<String, usize>,
    /// Maps and lists that there were none of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    created: Vec<String>,
}

impl Status {
    pub(super) fn new(wishes: &Wishes) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            capture: if wishes.capture == Capture::Transparent { "transparent" } else { "explicit" }.into(),
            sidecar: if wishes.native { "native" } else { "classic" }.into(),
            ..Self::default()
        }
    }

    pub(super) fn container(&mut self, name: &str) {
        self.containers.push(name.into());
    }

    pub(super) fn is_ours(&self, container: &str) -> bool {
        self.containers.iter().any(|name| name == container)
    }

    pub(super) fn volume(&mut self, name: &str) {
        self.volumes.push(name.into());
    }

    pub(super) fn told(&mut self, container: &str) {
        self.told.push(container.into());
    }

    pub(super) fn held(&mut self, container: &str) {
        self.held.push(container.into());
    }

    pub(super) fn wrapped(&mut self, container: &str, words: usize) {
        self.wrapped.insert(container.into(), words);
    }

    /// Annotates the pod, unless it says something itself.
    pub(super) fn annotation(&mut self, patch: &mut Patch, given: &Given<'_>, key: &str, value: &str) {
        if given.pod.pointer("/metadata/annotations").and_then(|all| all.get(key)).is_none() {
            patch.set("/metadata/annotations", key, json!(value));
            self.annotations.push(key.into());
        }
    }

    /// Writes it into the pod.
    pub(super) fn write(mut self, patch: &mut Patch, given: &Given<'_>) {
        let scraped = given.pod.pointer("/metadata/annotations/prometheus.io~1scrape").is_some();
        if given.settings.prometheus && !scraped {
            SCRAPE.iter().for_each(|(key, value)| self.annotation(patch, given, key, value));
        }
        patch.set("/metadata/labels", INJECTED, json!("true"));
        // Makes the map, where there is none, before it is said what was made.
        patch.set("/metadata/annotations", INJECTED, json!(""));
        self.created = patch.created().to_vec();
        let text = serde_json::to_string(&self).unwrap_or_default();
        patch.set("/metadata/annotations", INJECTED, json!(text));
    }
}

/// Takes away from a pod what an injection has added. Whether there was anything.
///
/// # Errors
/// The annotation is there and is not ours.
pub fn uninject(pod: &mut Value) -> Result<bool, String> {
    let Some(text) = pod.pointer("/metadata/annotations").and_then(|all| all.get(INJECTED)) else { return Ok(false) };
    let wrong = |why: &dyn std::fmt::Display| format!("annotation {INJECTED} is not what Weir wrote: {why}");
    let text = text.as_str().ok_or_else(|| wrong(&"it is no text"))?;
    let status: Status = serde_json::from_str(text).map_err(|e| wrong(&e))?;
    for at in ["/spec/initContainers", "/spec/containers"] {
        remove_named(pod, at, &status.containers);
        if let Some(Value::Array(containers)) = pod.pointer_mut(at) {
            containers.iter_mut().for_each(|container| restore(container, &status));
        }
    }
    remove_named(pod, "/spec/volumes", &status.volumes);
    if let Some(Value::Object(labels)) = pod.pointer_mut("/metadata/labels") {
        labels.remove(INJECTED);
    }
    if let Some(Value::Object(annotations)) = pod.pointer_mut("/metadata/annotations") {
        annotations.remove(INJECTED);
        status.annotations.iter().for_each(|key| drop(annotations.remove(key)));
    }
    // Innermost first. What is not empty now has become somebody else's.
    for at in status.created.iter().rev() {
        remove_empty(pod, &moved(pod, at, &status));
    }
    Ok(true)
}

/// A container of the application as it was.
fn restore(container: &mut Value, status: &Status) {
    let own = name(container).to_owned();
    if status.told.contains(&own) {
        let told: Vec<String> = TOLD.iter().map(ToString::to_string).collect();
        remove_named(container, "/env", &told);
    }
    if status.held.contains(&own)
        && let Some(Value::Object(lifecycle)) = container.pointer_mut("/lifecycle")
    {
        lifecycle.remove("preStop");
    }
    if let Some(words) = status.wrapped.get(&own) {
        if let Some(Value::Array(command)) = container.pointer_mut("/command") {
            command.drain(..(*words).min(command.len()));
        }
        remove_named(container, "/volumeMounts", &[PROGRAMS.into()]);
    }
}

fn remove_named(value: &mut Value, at: &str, names: &[String]) {
    if let Some(Value::Array(list)) = value.pointer_mut(at) {
        list.retain(|item| !names.iter().any(|n| n == name(item)));
    }
}

/// Where something is after our containers are gone: those before it in its list were counted.
fn moved(pod: &Value, at: &str, status: &Status) -> String {
    let parts: Vec<&str> = at.split('/').collect();
    let [_, "spec", containers, index, rest @ ..] = &parts[..] else { return at.into() };
    let Ok(index) = index.parse::<usize>() else { return at.into() };
    // Ours stand in front where anything stands behind them.
    let native = status.sidecar == "native";
    let before = match *containers {
        "initContainers" if native => status.containers.len(),
        "containers" if !native => 1,
        _ => 0,
    };
    let now = index.saturating_sub(before);
    if list(pod, &format!("/spec/{containers}")).len() <= now {
        return at.into();
    }
    format!("/spec/{containers}/{now}/{}", rest.join("/"))
}

fn remove_empty(pod: &mut Value, at: &str) {
    let empty = match pod.pointer(at) {
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => false,
    };
    let Some((parent, key)) = at.rsplit_once('/').filter(|_| empty) else { return };
    if let Some(Value::Object(map)) = pod.pointer_mut(parent) {
        map.remove(key);
    }
}
