//! The schemas say what the readers say, field by field, and the files are what the types make.

use super::{all, definition};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, path::Path};
use weir_config::resources::{Document, Kind};

#[test]
fn the_files_are_what_the_types_make() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/kubernetes/crds");
    for (name, text) in all() {
        let there = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(there == text, "{name} is not as the types are: run `weir crds --folder config/kubernetes/crds`");
    }
    let files = std::fs::read_dir(&folder).unwrap().flatten().count();
    assert_eq!(files, all().len(), "there is a file of no kind in {}", folder.display());
}

/// A value that a schema takes.
fn sample(schema: &Value) -> Value {
    if let Some(Value::Array(words)) = schema.get("enum") {
        return words[0].clone();
    }
    match schema["type"].as_str() {
        Some("object") => match schema.get("properties") {
            Some(Value::Object(properties)) => {
                Value::Object(properties.iter().map(|(name, schema)| (name.clone(), sample(schema))).collect())
            }
            _ => json!({ "key": "value" }),
        },
        Some("array") => json!([sample(&schema["items"])]),
        Some("integer" | "number") => schema["minimum"].clone(),
        Some("boolean") => json!(false),
        _ => json!("1s"),
    }
}

/// The fields of every object in a schema, by the path at which one of them stands in `sample`.
fn objects(schema: &Value, path: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        found.push((path.into(), properties.keys().cloned().collect()));
        for (name, schema) in properties {
            objects(schema, &format!("{path}/{name}"), found);
        }
    } else if let Some(items) = schema.get("items") {
        objects(items, &format!("{path}/0"), found);
    }
}

/// What the reader says to an unknown field at a place: the fields that it knows there.
fn known(kind: Kind, spec: &Value, path: &str) -> Option<BTreeSet<String>> {
    let mut spec = spec.clone();
    // Far from every name, so that the remedy is the list of them.
    let unknown = "x".repeat(40);
    spec.pointer_mut(path)?.as_object_mut()?.insert(unknown.clone(), json!(1));
    let document = json!({
        "apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": { "name": "a" }, "spec": spec,
    });
    let issues = Document::from_json(&document).expect_err("an unknown field");
    let issue = issues.iter().find(|i| i.message.contains("unknown field"))?;
    let names = issue.remedy.as_deref()?.strip_prefix("known here: ")?;
    Some(names.split(", ").map(ToOwned::to_owned).collect())
}

#[test]
fn schemas_and_readers_know_the_same_fields() {
    for kind in Kind::ALL {
        let Some(crd) = definition(kind) else { continue };
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut found = Vec::new();
        objects(schema, "", &mut found);
        assert!(found.len() >= 2, "{kind} has parts");
        // A field that another one excludes is known only without that.
        let variants = variants(kind, &sample(schema));
        for (path, ours) in found {
            let theirs: BTreeSet<String> =
                variants.iter().filter_map(|spec| known(kind, spec, &path)).flatten().collect();
            assert_eq!(ours, theirs, "{kind} spec{path}: left the schema, right the reader");
        }
    }
}

/// The sample, and what of it excludes something else left out or said otherwise.
fn variants(kind: Kind, spec: &Value) -> Vec<Value> {
    let mut all = vec![spec.clone()];
    match kind {
        Kind::AuthorizationPolicy => {
            let mut by_labels = spec.clone();
            by_labels.as_object_mut().map(|fields: &mut Map<_, _>| fields.remove("targetRefs"));
            all.push(by_labels);
        }
        Kind::TrafficPolicy | Kind::Mesh => {
            let at = if kind == Kind::Mesh { "/defaults/loadBalancing/algorithm" } else { "/loadBalancing/algorithm" };
            let mut other = spec.clone();
            if let Some(algorithm) = other.pointer_mut(at) {
                *algorithm = json!("LeastRequest");
            }
            all.push(other);
        }
        _ => {}
    }
    all
}

#[test]
fn every_part_has_a_description() {
    fn check(schema: &Value, path: &str) {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            for (name, field) in properties {
                assert!(field["description"].is_string(), "{path}.{name} has no description");
                check(field, &format!("{path}.{name}"));
            }
        } else if let Some(items) = schema.get("items") {
            check(items, &format!("{path}[]"));
        }
    }
    for kind in Kind::ALL {
        if let Some(crd) = definition(kind) {
            check(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], kind.as_str());
        }
    }
}
