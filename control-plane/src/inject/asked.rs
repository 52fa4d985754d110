//! Who has asked for a sidecar, and who for none.

use super::{Given, names::INJECT};
use serde_json::Value;

/// `true`: asked for; `false`: not wanted; `None`: nobody says anything. And who says it. The pod is heard before its
/// namespace; where label and annotation differ, no is no.
///
/// # Errors
/// Somebody says neither `enabled` nor `disabled`.
pub(super) fn asked(given: &Given<'_>) -> Result<Option<(bool, String)>, String> {
    let of_pod = |at: &str| given.pod.pointer(at).and_then(|all| all.get(INJECT)).and_then(Value::as_str);
    let pod = both("the pod", of_pod("/metadata/labels"), of_pod("/metadata/annotations"))?;
    if pod.is_some() {
        return Ok(pod);
    }
    let namespace = given.namespace;
    let of = |map: &std::collections::BTreeMap<String, String>| map.get(INJECT).cloned();
    let (label, annotation) = (of(&namespace.labels), of(&namespace.annotations));
    both(&format!("the namespace {}", namespace.name), label.as_deref(), annotation.as_deref())
}

fn both(who: &str, label: Option<&str>, annotation: Option<&str>) -> Result<Option<(bool, String)>, String> {
    let mut said = None;
    for value in [label, annotation].into_iter().flatten() {
        let wants = match value {
            "enabled" => true,
            "disabled" => false,
            _ => return Err(format!("{who}: {INJECT}: `{value}` is neither `enabled` nor `disabled`")),
        };
        said = Some(said.unwrap_or(true) && wants);
    }
    Ok(said.map(|wants| (wants, who.to_owned())))
}
