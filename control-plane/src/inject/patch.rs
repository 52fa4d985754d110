//! Changing a pod and writing down each change as an operation of JSON Patch (RFC 6902), in one step: so the two cannot
//! differ.

use serde_json::{Map, Value, json};

/// A pod under change.
#[derive(Debug)]
pub(super) struct Patch {
    pod: Value,
    operations: Vec<Value>,
    created: Vec<String>,
}

impl Patch {
    /// Of a pod as it is.
    pub(super) fn new(pod: &Value) -> Self {
        Self { pod: pod.clone(), operations: vec![], created: vec![] }
    }

    /// The pod as it is by now.
    pub(super) fn pod(&self) -> &Value {
        &self.pod
    }

    /// The maps and lists that there were none of.
    pub(super) fn created(&self) -> &[String] {
        &self.created
    }

    /// Sets a field of the map at `at`, which is made where it is missing.
    pub(super) fn set(&mut self, at: &str, key: &str, value: Value) {
        self.ensure(at, json!({}));
        let Some(Value::Object(map)) = self.pod.pointer_mut(at) else { return };
        // On a field that is there, `add` replaces it.
        map.insert(key.into(), value.clone());
        self.operations.push(json!({ "op": "add", "path": format!("{at}/{}", escaped(key)), "value": value }));
    }

    /// Puts something into the list at `at`, which is made where it is missing.
    pub(super) fn insert(&mut self, at: &str, index: usize, value: Value) {
        self.ensure(at, json!([]));
        let Some(Value::Array(list)) = self.pod.pointer_mut(at) else { return };
        let index = index.min(list.len());
        list.insert(index, value.clone());
        self.operations.push(json!({ "op": "add", "path": format!("{at}/{index}"), "value": value }));
    }

    /// Puts something at the end of the list at `at`.
    pub(super) fn push(&mut self, at: &str, value: Value) {
        self.insert(at, usize::MAX, value);
    }

    /// The pod and the operations.
    pub(super) fn finish(self) -> (Value, Value) {
        (self.pod, Value::Array(self.operations))
    }

    /// `null` is nothing, as in Kubernetes.
    fn ensure(&mut self, at: &str, empty: Value) {
        if self.pod.pointer(at).is_some_and(|value| !value.is_null()) {
            return;
        }
        let (parent, key) = at.rsplit_once('/').unwrap_or(("", at));
        if self.pod.pointer(parent).is_none_or(Value::is_null) {
            self.ensure(parent, Value::Object(Map::new()));
        }
        let Some(Value::Object(map)) = self.pod.pointer_mut(parent) else { return };
        map.insert(key.replace("~1", "/").replace("~0", "~"), empty.clone());
        self.operations.push(json!({ "op": "add", "path": at, "value": empty }));
        self.created.push(at.into());
    }
}

/// A key as a part of a JSON pointer (RFC 6901 §3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
