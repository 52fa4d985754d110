//! What a transaction means, apart from where it is kept: preconditions, versions, generations, limits, and whether the
//! documents still fit together afterwards. Pure, and the same for every implementation of the store.

use super::{
    Action, Applied, Batch, Change, Error, Expect, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, Outcome, Snapshot, Stored,
    snapshot::Write,
};
use std::{collections::HashSet, sync::Arc};
use time::OffsetDateTime;
use weir_config::resources::{Document, Key, check_all};

/// A transaction that may be committed as it is.
pub(super) struct Plan {
    /// What the caller is told.
    pub(super) applied: Applied,
    /// What goes to disk; empty if nothing changed.
    pub(super) writes: Vec<Write>,
    /// What readers see once it is there.
    pub(super) next: Snapshot,
}

/// Works a transaction out against what is there; touches nothing.
pub(super) fn plan(before: &Snapshot, batch: &Batch, now: OffsetDateTime) -> Result<Plan, Error> {
    plan_where(before, batch, now, Document::same_content)
}

/// The same, where a document that is there may say what is asked for in other words: `same(there, asked)`.
pub(super) fn plan_where(
    before: &Snapshot,
    batch: &Batch,
    now: OffsetDateTime,
    same: fn(&Document, &Document) -> bool,
) -> Result<Plan, Error> {
    let version = before.version() + 1;
    let mut seen = HashSet::with_capacity(batch.changes.len());
    let mut writes = Vec::new();
    let mut outcomes = Vec::with_capacity(batch.changes.len());
    for change in &batch.changes {
        let key = Arc::new(change.key());
        if !seen.insert(key.clone()) {
            return Err(Error::Twice { key: Key::clone(&key) });
        }
        let outcome = match change {
            Change::Put { document, expect } => put(before, key, document, *expect, (version, now), same)?,
            Change::Delete { expect, .. } => delete(before, key, *expect)?,
        };
        match outcome.action {
            Action::Unchanged => {}
            Action::Deleted => writes.push(Write { key: outcome.key.clone(), stored: None }),
            Action::Created | Action::Updated => {
                writes.push(Write { key: outcome.key.clone(), stored: outcome.stored.clone() });
            }
        }
        outcomes.push(outcome);
    }
    if writes.is_empty() {
        let applied = Applied { version: before.version(), outcomes };
        return Ok(Plan { applied, writes, next: before.clone() });
    }
    let next = before.after(version, &writes);
    if next.len() > MAX_DOCUMENTS && next.len() > before.len() {
        return Err(Error::Limit {
            what: "the number of documents".into(),
            would_be: next.len() as u64,
            limit: MAX_DOCUMENTS as u64,
            remedy: "delete documents that are no longer needed, or split the mesh",
        });
    }
    let wrong = |snapshot: &Snapshot| check_all(snapshot.iter().map(|(_, stored)| &*stored.document));
    let mut issues = wrong(&next);
    if !issues.is_empty() {
        // Where documents come by other ways too, what was wrong before is not this transaction's fault.
        let old = wrong(before);
        issues.retain(|issue| !old.contains(issue));
    }
    if !issues.is_empty() {
        return Err(Error::Invalid(issues));
    }
    Ok(Plan { applied: Applied { version, outcomes }, writes, next })
}

fn put(
    before: &Snapshot,
    key: Arc<Key>,
    document: &Arc<Document>,
    expect: Expect,
    (version, now): (u64, OffsetDateTime),
    same: fn(&Document, &Document) -> bool,
) -> Result<Outcome, Error> {
    let old = before.find(&key);
    precondition(&key, stated(expect, document), old)?;
    let (action, stored) = match old {
        Some(old) if same(&old.document, document) => (Action::Unchanged, old.clone()),
        Some(old) => {
            fits(&key, document)?;
            let generation = old.generation + u64::from(old.document.written() != document.written());
            let stored = Stored::new(Document::clone(document), old.uid.clone(), version, generation, old.created);
            (Action::Updated, Arc::new(stored))
        }
        None => {
            fits(&key, document)?;
            (Action::Created, Arc::new(Stored::new(Document::clone(document), new_uid(), version, 1, now)))
        }
    };
    Ok(Outcome { key, action, stored: Some(stored) })
}

/// A document that carries a `resourceVersion` is based on that version, as in Kubernetes, unless the caller says more.
fn stated(expect: Expect, document: &Document) -> Expect {
    match (expect, &document.metadata().resource_version) {
        // What is no number is no version of ours, and 0 is none that a document has.
        (Expect::Any, Some(version)) => Expect::Version(version.parse().unwrap_or(0)),
        (expect, _) => expect,
    }
}

fn delete(before: &Snapshot, key: Arc<Key>, expect: Expect) -> Result<Outcome, Error> {
    let old = before.find(&key);
    match (old, expect) {
        (None, Expect::Absent) => return Ok(Outcome { key, action: Action::Unchanged, stored: None }),
        (None, Expect::Any) => return Err(Error::NotFound { key: Key::clone(&key) }),
        _ => precondition(&key, expect, old)?,
    }
    Ok(Outcome { action: Action::Deleted, stored: old.cloned(), key })
}

fn precondition(key: &Key, expect: Expect, old: Option<&Arc<Stored>>) -> Result<(), Error> {
    let found = old.map(|old| old.resource_version);
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Version(version) => found == Some(version),
    };
    holds.then_some(()).ok_or_else(|| Error::Conflict { key: key.clone(), expected: expect, found })
}

fn fits(key: &Key, document: &Document) -> Result<(), Error> {
    let size = document.to_json().to_string().len();
    if size <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    Err(Error::Limit {
        what: format!("the size in bytes of {key}"),
        would_be: size as u64,
        limit: MAX_DOCUMENT_BYTES as u64,
        remedy: "split the document",
    })
}

/// A random UUID (version 4, RFC 9562 §5.4).
fn new_uid() -> Arc<str> {
    let bits = (rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into()
}
