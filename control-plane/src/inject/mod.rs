//! Injection: from a pod as somebody wrote it to the same pod with a sidecar, or the reason why not. Pure: the webhook, the
//! command line and the tests ask the same function.
//!
//! Pods are JSON all the way, never Kubernetes' types: a field that this program does not know comes out as it went in.
//! What is added is written into the pod (annotation [`names::INJECTED`]), so that [`uninject`] can take exactly that away.

mod application;
mod asked;
mod decide;
mod names;
mod patch;
mod probes;
mod read;
mod settings;
mod sidecar;
mod status;
#[cfg(test)]
mod tests;
mod version;
mod wishes;
mod workload;

pub use decide::Reason;
pub use names::{CONFIG_MAP, INJECT, INJECTED, ROOTS_FILE};
pub use settings::{Images, Settings};
pub use status::uninject;
pub use version::Version;
pub use workload::{Template, templates};

use patch::Patch;
use serde_json::Value;
use std::collections::BTreeMap;

/// What an injection depends on.
#[derive(Debug)]
pub struct Given<'a> {
    /// The pod, or the template of pods: `metadata` and `spec`.
    pub pod: &'a Value,
    /// Where it will run.
    pub namespace: &'a Namespace,
    /// What runs it.
    pub cluster: Version,
    /// What the mesh says.
    pub settings: &'a Settings,
    /// Whether somebody asks for this very pod (`weir inject`): then the namespace's label is not needed.
    pub asked_for: bool,
}

/// A namespace, as far as injection depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Namespace {
    /// Of an object as Kubernetes has it.
    pub fn of(object: &Value) -> Self {
        Self {
            name: read::text(object, "/metadata/name").unwrap_or_default().to_owned(),
            labels: read::texts(object, "/metadata/labels"),
            annotations: read::texts(object, "/metadata/annotations"),
        }
    }
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A sidecar was added.
    Injected(Box<Injection>),
    /// The pod stays as it is.
    Left {
        /// Why.
        reason: Reason,
        /// The same for people.
        detail: String,
    },
    /// The pod asks for something that cannot be: it must not run like this. Everything that is wrong, each with a remedy.
    Refused(Vec<String>),
}

/// What was done to a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// The pod afterwards.
    pub pod: Value,
    /// The same as operations on the pod before (JSON Patch, RFC 6902).
    pub patch: Value,
    /// What whoever wrote the pod should know.
    pub notes: Vec<String>,
}

/// Decides, and injects.
pub fn inject(given: &Given<'_>) -> Outcome {
    if let Some((reason, detail)) = decide::left_alone(given) {
        return Outcome::Left { reason, detail };
    }
    let wishes = match wishes::Wishes::of(given) {
        Ok(wishes) => wishes,
        Err(wrong) => return Outcome::Refused(wrong),
    };
    let wrong = decide::conflicts(given.pod, &wishes);
    if !wrong.is_empty() {
        return Outcome::Refused(wrong);
    }
    let probes = probes::of(given.pod);
    let mut notes = probes.notes.clone();
    let mut patch = Patch::new(given.pod);
    let mut status = status::Status::new(&wishes);
    let job = match application::ending(given.pod, &wishes) {
        Ok(job) => job,
        Err(detail) => return Outcome::Left { reason: Reason::JobNeedsNativeSidecar, detail },
    };
    sidecar::add(&mut patch, &mut status, given, &wishes, &probes, job.is_some());
    application::change(&mut patch, &mut status, given, &wishes, job, &mut notes);
    status.write(&mut patch, given);
    let (pod, patch) = patch.finish();
    Outcome::Injected(Box::new(Injection { pod, patch, notes }))
}
