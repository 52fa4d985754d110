//! Documents of the cluster that are read as they stand: our own kinds, and the Gateway API's.

use super::{Meaning, annotations, labels, read};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use weir_config::resources::{Key, Kind};

/// The kinds of document that objects of the cluster stand for one by one. (Workloads are made of pods, too.)
pub const KINDS: [Kind; 7] = [
    Kind::Mesh,
    Kind::Workload,
    Kind::ExternalService,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::TrafficPolicy,
    Kind::AuthorizationPolicy,
];

/// How a kind is asked for.
pub fn resource(kind: Kind) -> ApiResource {
    let version = kind.api_version().rsplit_once('/').map_or(kind.api_version(), |(_, version)| version);
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.group(), version, kind.as_str()), kind.plural())
}

/// The key of an object's document.
pub fn key(kind: Kind, object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    let [namespace, name] = [&metadata.namespace, &metadata.name].map(|text| text.as_deref().unwrap_or_default());
    Key::new(kind, namespace, name)
}

/// The document.
pub fn meaning(kind: Kind, object: &DynamicObject) -> Meaning {
    let mut spec = object.data.get("spec").cloned().unwrap_or_else(|| json!({}));
    if matches!(kind, Kind::HttpRoute | Kind::GrpcRoute) && !of_services(&mut spec) {
        return Meaning::Nothing;
    }
    read(&key(kind, object), labels(&object.metadata), annotations(&object.metadata), spec)
}

/// Leaves only those parents that are Services; the others are for whoever serves Gateways, and so are host names then.
/// Whether there is one.
fn of_services(spec: &mut Value) -> bool {
    let Some(parents) = spec.get_mut("parentRefs").and_then(Value::as_array_mut) else {
        // Whose it is cannot be told: it is refused, and somebody is told.
        return true;
    };
    let all = parents.len();
    parents.retain(is_service);
    let kept = parents.len();
    if kept < all
        && let Some(fields) = spec.as_object_mut()
    {
        fields.remove("hostnames");
    }
    kept > 0
}

/// Whether a parent is a Service.
pub fn is_service(parent: &Value) -> bool {
    let group = parent.get("group").and_then(Value::as_str);
    parent.get("kind").and_then(Value::as_str) == Some("Service") && group.is_none_or(|g| g.is_empty() || g == "core")
}
