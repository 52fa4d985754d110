//! `weir upgrade --check`: what an upgrade of a cluster to this program's version would do, without doing it. Every document
//! of the mesh is read as this version reads it; every manifest is applied by the API server as a trial; what would be
//! refused or changed is told.

use super::{Context, failure::Failure, install::Install};
use clap::Args;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use weir_config::resources::{Document, Kind, check_all};

/// Documents that are asked for at a time.
const PAGE: u32 = 500;
/// Changes that are told of one object.
const TOLD: usize = 20;
/// As whom `kubectl apply --server-side` writes.
const MANAGER: &str = "kubectl";

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// Change nothing; tell what would change. (To upgrade: `weir install | kubectl apply --server-side -f -`.)
    #[arg(long, required = true)]
    check: bool,
    #[command(flatten)]
    install: Install,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Documents that this version reads as it should.
    documents: usize,
    /// What this version would refuse, that is there.
    refused: Vec<String>,
    /// Objects that would be made.
    made: Vec<String>,
    /// Objects that would be changed, and how.
    changed: Vec<Changed>,
    /// Objects that stay as they are.
    same: usize,
}

#[derive(Debug, Serialize)]
struct Changed {
    object: String,
    fields: Vec<String>,
}

impl Upgrade {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        debug_assert!(self.check, "clap asks for it");
        let client = Client::try_default().await.map_err(|e| {
            Failure::failed(format!("there is no cluster to ask: {e}"), "set KUBECONFIG, or make ~/.kube/config")
        })?;
        let mut report = Report::default();
        documents(&client, &mut report).await?;
        for text in self.install.documents()? {
            let wanted: Value = serde_saphyr::from_str(&text)
                .map_err(|e| Failure::failed(format!("a manifest of ours is no YAML: {e}"), "please report it"))?;
            manifest(&client, &wanted, &mut report).await?;
        }
        context.print(&report, table)?;
        if report.refused.is_empty() {
            return Ok(());
        }
        Err(Failure::failed(
            "this version would refuse documents that are in the cluster",
            "put them right first: sidecars would go on with the last good ones",
        ))
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let Report { documents, refused, made, changed, same } = report;
    let _ = writeln!(text, "{documents} documents are read as before, {} would be refused", refused.len());
    for why in refused {
        let _ = writeln!(text, "× {why}");
    }
    let _ = writeln!(text, "{same} objects stay, {} would be changed, {} made", changed.len(), made.len());
    for object in made {
        let _ = writeln!(text, "+ {object}");
    }
    for Changed { object, fields } in changed {
        let _ = writeln!(text, "~ {object}");
        for field in fields {
            let _ = writeln!(text, "    {field}");
        }
    }
    text
}

/// All that configures the mesh, read strictly.
async fn documents(client: &Client, report: &mut Report) -> Result<(), Failure> {
    let mut all = vec![];
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Service) {
        let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
        let gvk = GroupVersionKind::gvk(group, version, kind.as_str());
        // A kind that the cluster does not know has no documents.
        let Ok((resource, _)) = discovery::pinned_kind(client, &gvk).await else { continue };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api
                .list(&params)
                .await
                .map_err(|e| Failure::failed(format!("{}: {e}", kind.plural()), "ask for the right to list them"))?;
            for object in page.items {
                let value = whole(object, &resource);
                // Routes for somebody's gateway are none of ours.
                if matches!(kind, Kind::HttpRoute | Kind::GrpcRoute) && !is_for_a_service(&value) {
                    continue;
                }
                match Document::from_json(&value) {
                    Ok(document) => all.push(document),
                    Err(issues) => report.refused.extend(issues.iter().map(ToString::to_string)),
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    report.documents = all.len();
    // Services and pods are the cluster's own: what refers to one that is not here may be right.
    let of_pods = |issue: &weir_config::resources::Issue| issue.message.contains("Service");
    let together = check_all(&all);
    report.refused.extend(together.iter().filter(|issue| !of_pods(issue)).map(ToString::to_string));
    Ok(())
}

fn is_for_a_service(route: &Value) -> bool {
    route["spec"]["parentRefs"].as_array().is_some_and(|all| all.iter().any(|parent| parent["kind"] == "Service"))
}

/// An object of a list says neither its version nor its kind.
fn whole(object: DynamicObject, resource: &ApiResource) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = resource.api_version.clone().into();
    value["kind"] = resource.kind.clone().into();
    value
}

/// One object of the installation, as it is and as it would be.
async fn manifest(client: &Client, wanted: &Value, report: &mut Report) -> Result<(), Failure> {
    let of = |pointer: &str| wanted.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name, namespace) = (of("/kind"), of("/metadata/name"), of("/metadata/namespace"));
    let object = if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
    let (group, version) = of("/apiVersion").split_once('/').unwrap_or(("", of("/apiVersion")));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let failed =
        |e: kube::Error| Failure::failed(format!("{object}: {e}"), "ask for the right to read and to apply it");
    let Ok((resource, capabilities)) = discovery::pinned_kind(client, &gvk).await else {
        // Its kind is made with it.
        report.made.push(object);
        return Ok(());
    };
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let Some(before) = api.get_opt(name).await.map_err(failed)? else {
        report.made.push(object);
        return Ok(());
    };
    let trial = PatchParams::apply(MANAGER).force().dry_run();
    let after = api.patch(name, &trial, &Patch::Apply(wanted)).await.map_err(failed)?;
    let mut fields = vec![];
    differences(&content(before), &content(after), &mut String::new(), &mut fields);
    match fields.is_empty() {
        true => report.same += 1,
        false => report.changed.push(Changed { object, fields }),
    }
    Ok(())
}

/// An object without what the API server writes into it.
fn content(object: DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.retain(|key, _| ["labels", "annotations", "name", "namespace"].contains(&&**key));
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    value
}

fn differences(before: &Value, after: &Value, path: &mut String, told: &mut Vec<String>) {
    if before == after || told.len() >= TOLD {
        return;
    }
    let length = path.len();
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let _ = write!(path, "{}{key}", if path.is_empty() { "" } else { "." });
                differences(
                    before.get(key).unwrap_or(&Value::Null),
                    after.get(key).unwrap_or(&Value::Null),
                    path,
                    told,
                );
                path.truncate(length);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (n, (before, after)) in before.iter().zip(after).enumerate() {
                let _ = write!(path, "[{n}]");
                differences(before, after, path, told);
                path.truncate(length);
            }
        }
        (before, after) => told.push(format!("{path}: {} → {}", shown(before), shown(after))),
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".into(),
        other => other.to_string(),
    };
    if text.chars().count() > 80 { text.chars().take(79).chain(['…']).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_told_by_their_path() {
        let mut told = vec![];
        let before = json!({ "a": { "b": [{ "c": 1 }, 2] }, "gone": true, "list": [1] });
        let after = json!({ "a": { "b": [{ "c": "x" }, 2] }, "list": [1, 2], "new": {} });
        differences(&before, &after, &mut String::new(), &mut told);
        let expected = ["a.b[0].c: 1 → \"x\"", "gone: true → nothing", "list: [1] → [1,2]", "new: nothing → {}"];
        assert_eq!(told, expected);
    }
}
