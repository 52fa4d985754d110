//! Our own kinds as Kubernetes knows them: CustomResourceDefinitions whose schemas are made from Rust types of the shape
//! that operators write ([`shapes`]).
//!
//! What the strict reader (`weir_config::resources`) refuses and a schema can say, the schema says, in OpenAPI or, for what
//! fields say together, in CEL: then the API server refuses it at once, and nobody has to look for it in a status. What only
//! the reader can tell (whether a regular expression is one, whether a target exists) it tells in the status. A schema never
//! refuses what the reader takes; tests hold the two against each other field by field.

mod shapes;
#[cfg(test)]
mod tests;
mod texts;

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Value, json};
use shapes::{AuthorizationPolicySpec, ExternalServiceSpec, MeshSpec, Status, TrafficPolicySpec, WorkloadSpec};
use weir_config::resources::Kind;

/// The CustomResourceDefinitions of all kinds that are ours, in the order of [`Kind::ALL`]: the name of the file, and the
/// YAML in it. `config/kubernetes/crds` has them.
pub fn all() -> Vec<(String, String)> {
    let yaml = |kind: Kind| {
        let crd = definition(kind)?;
        let text = serde_saphyr::to_string(&crd).unwrap_or_else(|_| crd.to_string());
        Some((format!("{}.yaml", kind.plural()), text))
    };
    Kind::ALL.into_iter().filter_map(yaml).collect()
}

/// The definition of a kind; `None` for those that Kubernetes or the Gateway API define.
pub fn definition(kind: Kind) -> Option<Value> {
    let (spec, columns) = match kind {
        Kind::Mesh => (schema::<MeshSpec>(), &MESH[..]),
        Kind::Workload => (schema::<WorkloadSpec>(), &WORKLOAD[..]),
        Kind::ExternalService => (schema::<ExternalServiceSpec>(), &EXTERNAL[..]),
        Kind::TrafficPolicy => (schema::<TrafficPolicySpec>(), &TRAFFIC[..]),
        Kind::AuthorizationPolicy => (schema::<AuthorizationPolicySpec>(), &AUTHORIZATION[..]),
        Kind::Service | Kind::HttpRoute | Kind::GrpcRoute => return None,
    };
    let (group, version) = kind.api_version().split_once('/')?;
    let mut names = json!({
        "kind": kind.as_str(),
        "listKind": format!("{}List", kind.as_str()),
        "plural": kind.plural(),
        "singular": kind.as_str().to_lowercase(),
        "categories": ["weir"],
    });
    // A short name that is the singular says nothing new.
    if kind.short() != kind.as_str().to_lowercase() {
        names["shortNames"] = json!([kind.short()]);
    }
    // Only what is said of the mesh as a whole may be left unsaid as a whole.
    let required = if kind == Kind::Mesh || kind == Kind::AuthorizationPolicy { json!([]) } else { json!(["spec"]) };
    let mut root = json!({
        "type": "object",
        "description": describe(&spec),
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": schema::<Status>(),
        },
    });
    if required != json!([]) {
        root["required"] = required;
    }
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{group}", kind.plural()), "labels": { "app.kubernetes.io/part-of": "weir" } },
        "spec": {
            "group": group,
            "names": names,
            "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": root },
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns.iter().map(column).collect::<Vec<_>>(),
            }],
        },
    }))
}

/// A column of `kubectl get`: its name, its type, where it is.
type Column = (&'static str, &'static str, &'static str);

const ACCEPTED: Column = ("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].status");
const PROGRAMMED: Column = ("Programmed", "string", ".status.conditions[?(@.type==\"Programmed\")].status");
const AGE: Column = ("Age", "date", ".metadata.creationTimestamp");
const MESH: [Column; 5] =
    [("Trust domain", "string", ".spec.trustDomain"), ("mTLS", "string", ".spec.mtls.mode"), ACCEPTED, PROGRAMMED, AGE];
const WORKLOAD: [Column; 6] = [
    ("Address", "string", ".spec.address"),
    ("Account", "string", ".spec.serviceAccount"),
    ("Health", "string", ".spec.health"),
    ACCEPTED,
    PROGRAMMED,
    AGE,
];
const EXTERNAL: [Column; 4] = [("Hosts", "string", ".spec.hosts[*]"), ACCEPTED, PROGRAMMED, AGE];
const TRAFFIC: [Column; 4] = [("Targets", "string", ".spec.targetRefs[*].name"), ACCEPTED, PROGRAMMED, AGE];
const AUTHORIZATION: [Column; 4] = [("Action", "string", ".spec.action"), ACCEPTED, PROGRAMMED, AGE];

fn column((name, kind, path): &Column) -> Value {
    json!({ "name": name, "type": kind, "jsonPath": path })
}

/// The structural schema of a shape: nothing referred to, nothing nullable.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings.with_transform(Plain).into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.to_value()
}

fn describe(spec: &Value) -> Value {
    spec.get("description").cloned().unwrap_or_default()
}

/// Kubernetes takes `null` for "not there" by itself, and wants neither `anyOf` around it nor formats that it does not know.
#[derive(Debug, Clone)]
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        schema.remove("nullable");
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        if schema.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with('u') || f == "double") {
            schema.remove("format");
        }
        if let Some(Value::Array(choices)) = schema.remove("anyOf") {
            let there = |choice: &&Value| choice.get("enum") != Some(&json!([null]));
            let mut kept = choices.iter().filter(there);
            if let (Some(Value::Object(only)), None) = (kept.next(), kept.next()) {
                for (name, value) in only {
                    // What the field says of itself is more than what its type does.
                    if schema.get(name).is_none() {
                        schema.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        transform_subschemas(self, schema);
    }
}
