//! Where pods, and templates of pods, stand in what operators write.

use serde_json::Value;

/// A pod, or a template of pods, in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Where, as a JSON pointer (RFC 6901); empty: the document itself.
    pub at: String,
    /// The namespace that its document names.
    pub namespace: Option<String>,
    /// `Deployment/web`
    pub name: String,
}

/// How deep lists may stand in lists.
const DEEPEST: usize = 4;

/// All pods and templates in a document; none in whatever else it may be.
pub fn templates(document: &Value) -> Vec<Template> {
    let mut found = vec![];
    find(document, String::new(), 0, &mut found);
    found
}

fn find(document: &Value, at: String, depth: usize, found: &mut Vec<Template>) {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let inner = match (version, kind) {
        ("v1", "Pod") => "",
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("v1", "ReplicationController")
        | ("batch/v1", "Job") => "/spec/template",
        ("batch/v1", "CronJob") => "/spec/jobTemplate/spec/template",
        _ if kind.ends_with("List") && depth < DEEPEST => {
            let items = document.get("items").and_then(Value::as_array).into_iter().flatten().enumerate();
            items.for_each(|(n, item)| find(item, format!("{at}/items/{n}"), depth + 1, found));
            return;
        }
        _ => return,
    };
    if document.pointer(inner).is_none_or(|template| template.get("spec").is_none()) {
        return;
    }
    let of = |key: &str| document.pointer(&format!("/metadata/{key}")).and_then(Value::as_str);
    let name = of("name").or_else(|| of("generateName")).unwrap_or("?");
    found.push(Template {
        at: format!("{at}{inner}"),
        namespace: of("namespace").map(Into::into),
        name: format!("{kind}/{name}"),
    });
}
