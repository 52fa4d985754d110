//! `/inject`: a pod that is about to be made.

use super::{Parts, review::Review};
use crate::inject::{self, Given, Outcome, Reason};
use serde_json::Value;

/// The answer, and its result for metrics.
pub(super) async fn answer(parts: &Parts, review: &Review) -> (Value, &'static str) {
    if review.kind() != ("", "Pod") || review.object().is_null() {
        return (review.allowed(None, &[], "not_a_pod"), "not_a_pod");
    }
    let name = review.namespace();
    let mut outcome = parts.namespaces.known(name).map(|namespace| decide(parts, review, &namespace));
    // Kubernetes asks because the namespace has the label: who knows otherwise knows something old.
    if matches!(outcome, None | Some(Outcome::Left { reason: Reason::NotAskedFor | Reason::OptedOut, .. })) {
        match parts.namespaces.fresh(name).await {
            Ok(namespace) => outcome = Some(decide(parts, review, &namespace)),
            Err(error) if outcome.is_none() => {
                tracing::warn!(namespace = name, %error, "a pod cannot be decided on");
                let why = format!(
                    "Weir cannot read the namespace {name}, and does not know whether the pod gets a sidecar: {error}"
                );
                return (review.refused(&why, "namespace_unknown"), "namespace_unknown");
            }
            Err(_) => {}
        }
    }
    let pod = shown(review);
    match outcome {
        Some(Outcome::Injected(injection)) => {
            tracing::info!(namespace = name, pod, "injected");
            (review.allowed(Some(&injection.patch), &injection.notes, "injected"), "injected")
        }
        Some(Outcome::Left { reason, detail }) => {
            tracing::info!(namespace = name, pod, %reason, detail, "no sidecar");
            let warning = format!("Weir: no sidecar ({reason}): {detail}");
            let warnings = if reason.is_surprising() { vec![warning] } else { vec![] };
            (review.allowed(None, &warnings, reason.as_str()), reason.as_str())
        }
        Some(Outcome::Refused(wrong)) => {
            tracing::warn!(namespace = name, pod, ?wrong, "refused");
            (review.refused(&format!("Weir: {}", wrong.join("; ")), "refused"), "refused")
        }
        None => (review.refused("Weir: the namespace is not known", "namespace_unknown"), "namespace_unknown"),
    }
}

fn decide(parts: &Parts, review: &Review, namespace: &inject::Namespace) -> Outcome {
    let cluster = *parts.version.borrow();
    inject::inject(&Given { pod: review.object(), namespace, cluster, settings: &parts.settings, asked_for: false })
}

fn shown(review: &Review) -> &str {
    let of = |key: &str| review.object()["metadata"][key].as_str();
    of("name").or_else(|| of("generateName")).unwrap_or("?")
}
