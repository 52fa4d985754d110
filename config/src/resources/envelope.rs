//! What stands around every `spec`: `apiVersion`, `kind`, `metadata`.

use super::{
    Document, Kind, Metadata,
    document::{Object, Origin},
    node::{Node, Tree},
    read::{Reader, nearest, shorten},
    read_authorization, read_external, read_mesh, read_policy, read_route, read_service, read_workload,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Reads a whole document.
pub(super) fn read(r: &mut Reader, node: &Node) -> Option<Document> {
    let mut f = r.fields(node)?;
    let version = f.required(r, "apiVersion", |r, n| r.text(n).map(|t| (n, t)));
    let kind = f.required(r, "kind", kind);
    if let (Some((at, version)), Some(kind)) = (version, kind)
        && version != kind.api_version()
    {
        let message = format!("`{}` is not the apiVersion of {kind}", shorten(version));
        r.within("apiVersion", |r| r.issue(at, message, Some(format!("write `{}`", kind.api_version()))));
    }
    // Without a kind nothing more can be said.
    let kind = kind?;
    kind.as_str().clone_into(&mut r.label);
    let metadata = f.required(r, "metadata", |r, n| metadata(r, n, kind));
    if let Some(m) = &metadata {
        let namespace = if m.namespace.is_empty() { String::new() } else { format!("{}/", m.namespace) };
        r.label = format!("{kind} {namespace}{}", m.name);
        m.namespace.clone_into(&mut r.namespace);
    }
    // What `kubectl get -o yaml` adds.
    f.ignore(&["status"]);
    let empty = Node { line: node.line, column: node.column, tree: Tree::Map(vec![]) };
    let spec = f.find("spec").unwrap_or(&empty);
    f.close(r);
    let document = r.within("spec", |r| self::spec(r, spec, kind))?;
    Some(document.finish(r, node, metadata?, spec))
}

fn kind(r: &mut Reader, node: &Node) -> Option<Kind> {
    let text = r.text(node)?;
    let known: Vec<_> = Kind::ALL.iter().map(|k| k.as_str()).collect();
    let found = Kind::ALL.into_iter().find(|k| k.as_str() == text);
    if found.is_none() {
        let remedy = match nearest(text, &known) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("one of {}", known.join(", ")),
        };
        r.issue(node, format!("`{}` is not a kind that Weir knows", shorten(text)), Some(remedy));
    }
    found
}

fn metadata(r: &mut Reader, node: &Node, kind: Kind) -> Option<Metadata> {
    let mut f = r.fields(node)?;
    let name = f.required(r, "name", if kind == Kind::Service { Reader::label } else { Reader::name });
    let mut namespace = String::new();
    if kind.namespaced() {
        namespace = f.optional(r, "namespace", Reader::label).unwrap_or_else(|| "default".into());
    } else {
        f.unsupported(r, "namespace", "remove it: there is one Mesh for all namespaces");
    }
    let metadata = Metadata {
        name: name.unwrap_or_default(),
        namespace,
        labels: f.optional(r, "labels", Reader::labels).unwrap_or_default(),
        annotations: f.optional(r, "annotations", Reader::texts).unwrap_or_default(),
        generation: f.optional(r, "generation", |r, n| r.whole(n, 0, i64::MAX)).and_then(|n| u64::try_from(n).ok()),
        resource_version: f.optional(r, "resourceVersion", |r, n| r.words(n, 64)),
        uid: f.optional(r, "uid", |r, n| r.words(n, 64)),
        creation_timestamp: f.optional(r, "creationTimestamp", |r, n| r.words(n, 64)),
    };
    f.ignore(&["managedFields", "ownerReferences", "finalizers", "selfLink"]);
    f.unsupported(r, "generateName", "write `name`");
    f.close(r);
    Some(metadata)
}

/// A `spec` that has been read, not yet a document.
enum Spec {
    Mesh(super::Mesh),
    Workload(super::Workload),
    Service(super::Service),
    External(super::ExternalService),
    Http(super::RouteSpec),
    Grpc(super::RouteSpec),
    Traffic(super::TrafficPolicy),
    Authorization(super::AuthorizationPolicy),
}

fn spec(r: &mut Reader, node: &Node, kind: Kind) -> Option<Spec> {
    Some(match kind {
        Kind::Mesh => Spec::Mesh(read_mesh::spec(r, node)?),
        Kind::Workload => Spec::Workload(read_workload::spec(r, node)?),
        Kind::Service => Spec::Service(read_service::spec(r, node)?),
        Kind::ExternalService => Spec::External(read_external::spec(r, node)?),
        Kind::HttpRoute => Spec::Http(read_route::http(r, node)?),
        Kind::GrpcRoute => Spec::Grpc(read_route::grpc(r, node)?),
        Kind::TrafficPolicy => Spec::Traffic(read_policy::spec(r, node)?),
        Kind::AuthorizationPolicy => Spec::Authorization(read_authorization::spec(r, node)?),
    })
}

impl Spec {
    fn finish(self, r: &mut Reader, node: &Node, metadata: Metadata, written: &Node) -> Document {
        let origin =
            Origin { file: Arc::clone(&r.file), line: node.line, column: node.column, references: r.take_references() };
        let (written, origin) = (Arc::new(without_nulls(written.to_json())), Arc::new(origin));
        macro_rules! object {
            ($spec:expr) => {
                Object { metadata, spec: $spec, written, origin }
            };
        }
        match self {
            Self::Mesh(spec) => Document::Mesh(object!(spec)),
            Self::Workload(spec) => Document::Workload(object!(spec)),
            Self::Service(spec) => Document::Service(object!(spec)),
            Self::External(spec) => Document::ExternalService(object!(spec)),
            Self::Http(spec) => Document::HttpRoute(object!(spec)),
            Self::Grpc(spec) => Document::GrpcRoute(object!(spec)),
            Self::Traffic(spec) => Document::TrafficPolicy(object!(spec)),
            Self::Authorization(spec) => Document::AuthorizationPolicy(object!(spec)),
        }
    }
}

/// A field that is `null` is one that is not there, as in Kubernetes.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v)));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
