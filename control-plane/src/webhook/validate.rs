//! `/validate`: a document that configures the mesh, read as the control plane will read it. What it would refuse is
//! refused at once, where somebody reads it.

use super::review::Review;
use serde_json::Value;
use weir_config::resources::{Document, Kind};

/// More is not said.
const MOST_ISSUES: usize = 10;

/// The answer, and its result for metrics.
pub(super) fn answer(review: &Review) -> (Value, &'static str) {
    let object = review.object();
    if object.is_null() || !is_ours(review) {
        return (review.allowed(None, &[], "not_ours"), "not_ours");
    }
    match Document::from_json(object) {
        Ok(_) => (review.allowed(None, &[], "valid"), "valid"),
        Err(issues) => {
            let mut said: Vec<String> = issues.iter().take(MOST_ISSUES).map(ToString::to_string).collect();
            if let Some(more) = issues.len().checked_sub(MOST_ISSUES).filter(|more| *more > 0) {
                said.push(format!("and {more} more"));
            }
            tracing::info!(namespace = review.namespace(), kind = review.kind().1, ?said, "refused");
            (review.refused(&format!("Weir: {}", said.join("; ")), "invalid"), "invalid")
        }
    }
}

/// Our kinds; of the Gateway API's routes those for services: others are for somebody's gateway.
fn is_ours(review: &Review) -> bool {
    let (group, name) = review.kind();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == name && kind.group() == group) else {
        return false;
    };
    // Another version of the same kind is another matter: Kubernetes turns what it keeps into the one we read.
    if review.object()["apiVersion"] != kind.api_version() {
        return false;
    }
    match kind {
        Kind::HttpRoute | Kind::GrpcRoute => {
            let parents = review.object()["spec"]["parentRefs"].as_array();
            parents.is_some_and(|all| all.iter().any(|parent| parent["kind"] == "Service"))
        }
        Kind::Service => false,
        _ => true,
    }
}
