//! From documents and what the sidecars say to conditions.

use crate::{
    fleet::ChangeStatus,
    kubernetes::{FROM, object},
    store::{Refused, Snapshot, Stored},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};
use weir_config::resources::{Issue, Key, check_all};

/// So much is told in one message; the rest is in the log of `weir validate`.
const TOLD: usize = 5;

/// One condition of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, `Programmed`.
    pub kind: &'static str,
    /// Whether it is so; `None`: not known.
    pub holds: Option<bool>,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

/// The conditions of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// Of which object.
    pub uid: Arc<str>,
    /// Of which generation of it.
    pub generation: u64,
    /// What holds.
    pub all: [Condition; 3],
}

/// How far the sidecars are with a version of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many it concerns.
    pub concerned: usize,
    /// How many of them have applied it.
    pub applied: usize,
    /// How many of them have refused something of it.
    pub refused: usize,
    /// Nobody is waited for any more.
    pub complete: bool,
}

impl From<&ChangeStatus> for Progress {
    fn from(change: &ChangeStatus) -> Self {
        let ChangeStatus { concerned, applied, refused, complete, .. } = *change;
        Self { concerned, applied, refused, complete }
    }
}

/// The conditions of all objects that are documents, or were to be. `since`: with which version of all documents each of
/// them came to be what it is; `progress`: how far the sidecars are with that version, and with the document of this version
/// of its own; `None` where that is not known.
pub fn decide(
    snapshot: &Snapshot,
    refused: &BTreeMap<Key, Refused>,
    since: &HashMap<Arc<Key>, u64>,
    progress: impl Fn(u64, u64) -> Option<Progress>,
) -> BTreeMap<Key, Conditions> {
    let mut issues: HashMap<Key, Vec<Issue>> = HashMap::new();
    // Of a large mesh this looks at a lot: not where nobody is to be told.
    let of_all = told_of(snapshot).next().map(|_| check_all(snapshot.iter().map(|(_, stored)| &*stored.document)));
    for issue in of_all.into_iter().flatten() {
        if let Some(key) = about(&issue) {
            issues.entry(key).or_default().push(issue);
        }
    }
    let mut all = BTreeMap::new();
    for (key, stored) in told_of(snapshot) {
        let references = issues.get(&**key).map_or(&[][..], Vec::as_slice);
        let programmed = programmed(since.get(key).and_then(|version| progress(*version, stored.resource_version)));
        let conditions = [accepted(), resolved(references), programmed];
        let (uid, generation) = (stored.uid.clone(), stored.generation);
        all.insert(Key::clone(key), Conditions { uid, generation, all: conditions });
    }
    for (key, refusal) in refused.iter().filter(|(key, _)| object::KINDS.contains(&key.kind)) {
        let before = all.contains_key(key);
        let conditions = Conditions {
            uid: refusal.known.uid.clone(),
            generation: refusal.known.generation.unwrap_or(1),
            all: not_accepted(&refusal.issues, before),
        };
        all.insert(key.clone(), conditions);
    }
    all
}

/// The documents that have a status of ours: those of our kinds that no other object of the cluster stands behind.
pub(super) fn told_of(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Key>, &Arc<Stored>)> {
    let all = object::KINDS.into_iter().flat_map(|kind| snapshot.entries(kind, None));
    all.filter(|(_, stored)| !stored.document.metadata().annotations.contains_key(FROM))
}

/// The document that an issue is about: its field begins with kind and name.
fn about(issue: &Issue) -> Option<Key> {
    let mut words = issue.field.split(' ');
    format!("{}/{}", words.next()?, words.next()?).parse().ok()
}

fn accepted() -> Condition {
    Condition { kind: "Accepted", holds: Some(true), reason: "Accepted", message: String::new() }
}

fn not_accepted(issues: &[Issue], before: bool) -> [Condition; 3] {
    let stays = if before { "; the last good version holds" } else { "" };
    let unknown = |kind| Condition { kind, holds: None, reason: "Invalid", message: "it is not accepted".into() };
    let message = format!("{}{stays}", told(issues));
    [
        Condition { kind: "Accepted", holds: Some(false), reason: "Invalid", message },
        unknown("ResolvedRefs"),
        Condition { kind: "Programmed", holds: Some(false), reason: "Invalid", message: "it is not accepted".into() },
    ]
}

fn resolved(issues: &[Issue]) -> Condition {
    let kind = "ResolvedRefs";
    let Some(first) = issues.first() else {
        return Condition { kind, holds: Some(true), reason: "ResolvedRefs", message: String::new() };
    };
    let reason = match &first.field {
        field if field.contains("backendRefs") => "BackendNotFound",
        field if field.contains("parentRefs") => "ParentNotFound",
        field if field.contains("targetRefs") => "TargetNotFound",
        _ => "Conflicted",
    };
    Condition { kind, holds: Some(false), reason, message: told(issues) }
}

fn programmed(progress: Option<Progress>) -> Condition {
    let of = |holds, reason, message| Condition { kind: "Programmed", holds, reason, message };
    match progress {
        None => of(None, "Pending", "no sidecar has been asked yet".into()),
        Some(p) if p.refused > 0 => of(
            Some(false),
            "Refused",
            format!("{} of {} sidecars refuse it; `weir status` says why", p.refused, p.concerned),
        ),
        // Without figures: a status that is written at each step of a thousand sidecars helps nobody.
        Some(p) if !p.complete => {
            of(Some(false), "Pending", "not every sidecar that it concerns has applied it".into())
        }
        Some(_) => of(Some(true), "Programmed", String::new()),
    }
}

fn told(issues: &[Issue]) -> String {
    let mut text = String::new();
    for (n, issue) in issues.iter().take(TOLD).enumerate() {
        let _ = write!(text, "{}{issue}", if n > 0 { "; " } else { "" });
    }
    if issues.len() > TOLD {
        let _ = write!(text, "; and {} more", issues.len() - TOLD);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Memory, Store};
    use weir_config::resources::parse;

    const TEXT: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}
---
{apiVersion: weir.dev/v1alpha1, kind: TrafficPolicy, metadata: {name: p}, spec: {targetRefs: [{kind: Service, name: web}]}}
";

    fn conditions(progress: Option<Progress>) -> [Condition; 3] {
        let store = Memory::default();
        store.apply(&Batch::put_all(parse("t", TEXT).unwrap())).unwrap();
        let snapshot = store.snapshot();
        let since = snapshot.iter().map(|(key, _)| (key.clone(), 7)).collect();
        let mut all = decide(&snapshot, &BTreeMap::new(), &since, |version, own| {
            assert_eq!((version, own), (7, 1));
            progress
        });
        assert_eq!(all.len(), 1, "a Service has no status of ours");
        all.pop_first().unwrap().1.all
    }

    #[test]
    fn programmed_is_what_all_that_are_concerned_have_applied() {
        let holds = |p| conditions(p)[2].holds;
        let progress = Progress { concerned: 3, applied: 2, refused: 0, complete: false };
        assert_eq!(holds(None), None);
        assert_eq!(holds(Some(progress)), Some(false));
        assert_eq!(holds(Some(Progress { applied: 3, complete: true, ..progress })), Some(true));
        assert_eq!(holds(Some(Progress { refused: 1, complete: true, ..progress })), Some(false));
        assert!(conditions(Some(progress))[..2].iter().all(|c| c.holds == Some(true)));
    }
}
