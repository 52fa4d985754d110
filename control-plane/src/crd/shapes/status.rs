//! What the control plane writes back.

use crate::crd::texts::{Generation, Time, Truth};
use schemars::JsonSchema;

/// Written by the control plane.
#[derive(JsonSchema)]
pub(in crate::crd) struct Status {
    /// `Accepted`: it has been taken over. `ResolvedRefs`: all that it names is there. `Programmed`: every sidecar that it
    /// concerns has applied it.
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    conditions: Option<Vec<Condition>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Condition {
    /// What it is about.
    #[schemars(rename = "type", length(min = 1, max = 316))]
    kind: String,
    /// Whether it is so.
    status: Truth,
    /// Of which generation of the document.
    observed_generation: Option<Generation>,
    /// Since when.
    last_transition_time: Time,
    /// Why, in one word.
    #[schemars(length(min = 1, max = 1024))]
    reason: String,
    /// Why, for people.
    #[schemars(length(max = 32768))]
    message: String,
}
