//! Where documents live: one port, several implementations, one set of semantics and one conformance suite.
//!
//! Readers see an immutable [`Snapshot`]; a change is a transaction ([`Batch`]) that is checked as a whole against what
//! the documents would be after it, made durable, and only then seen. Versions are one sequence for the whole store, so
//! "everything up to version n" has a meaning for the sidecars' status. Beside the documents there is a small key-value
//! space for what must be kept and is no document: the certificate authority's keys and tokens.

mod change;
mod embedded;
mod error;
mod etcd;
mod file;
mod kubernetes;
mod ledger;
mod memory;
mod record;
mod snapshot;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod flaky;

pub use change::{Action, Applied, Batch, Change, Expect, Outcome};
pub use embedded::Embedded;
pub use error::Error;
pub use etcd::{Etcd, EtcdLease, EtcdOptions};
pub use kubernetes::{Kubernetes, KubernetesLease, KubernetesOptions, Refused};
pub use memory::Memory;
pub use snapshot::{Snapshot, Stored};

use std::sync::Arc;
use tokio::sync::watch;
use weir_config::resources::{Key, Kind};

/// The most documents that a store holds.
pub const MAX_DOCUMENTS: usize = 100_000;
/// The largest document, as JSON.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// The largest entry of the key-value space.
pub const MAX_META_BYTES: usize = 1 << 20;
/// The most entries of the key-value space.
pub const MAX_META_ENTRIES: usize = 10_000;

/// Keeps documents. Reading is cheap and never blocks; [`Store::apply`] and the key-value space may wait for a disk, so
/// asynchronous callers use `spawn_blocking`.
pub trait Store: Send + Sync + 'static {
    /// All documents as they are now.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// Follows the snapshots: one after each transaction that changed something; a slow reader sees only the last.
    fn watch(&self) -> watch::Receiver<Arc<Snapshot>>;

    /// Does all of a batch, durably, or nothing. What it returns is on disk, and readers see it.
    fn apply(&self, batch: &Batch) -> Result<Applied, Error>;

    /// An entry of the key-value space.
    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Writes (or, with `None`, removes) an entry if the precondition holds, durably.
    fn set_meta(&self, name: &str, expect: MetaExpect<'_>, value: Option<&[u8]>) -> Result<(), Error>;

    /// The names of the entries that start with a prefix, sorted.
    fn meta_names(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// Wakes when somebody else may have changed an entry, as long as the receiver is kept. `None`: nobody else writes here.
    fn watch_meta(&self, _name: &str) -> Option<watch::Receiver<u64>> {
        None
    }

    /// One document.
    fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.snapshot().find(key).cloned()
    }

    /// The version of the store, and the documents of a kind, in one namespace or all, by namespace and name.
    fn list(&self, kind: Kind, namespace: Option<&str>) -> (u64, Vec<Arc<Stored>>) {
        let snapshot = self.snapshot();
        (snapshot.version(), snapshot.list(kind, namespace).cloned().collect())
    }
}

/// What must hold of an entry of the key-value space before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaExpect<'a> {
    /// Nothing.
    Any,
    /// There is none of that name: of several who make the first key, one wins.
    Absent,
    /// It has this value.
    Value(&'a [u8]),
}

impl MetaExpect<'_> {
    fn check(self, name: &str, found: Option<&[u8]>) -> Result<(), Error> {
        let holds = match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Value(value) => found == Some(value),
        };
        holds.then_some(()).ok_or_else(|| Error::MetaConflict { name: name.to_owned() })
    }
}

/// Refuses an entry that is too large.
fn meta_fits(name: &str, value: Option<&[u8]>) -> Result<(), Error> {
    let size = name.len() + value.map_or(0, <[u8]>::len);
    if size <= MAX_META_BYTES {
        return Ok(());
    }
    let what = format!("the size in bytes of the entry `{}`", name.chars().take(200).collect::<String>());
    Err(Error::Limit { what, would_be: size as u64, limit: MAX_META_BYTES as u64, remedy: "write less" })
}

/// Refuses one entry more than there may be.
fn meta_room(entries: usize) -> Result<(), Error> {
    if entries < MAX_META_ENTRIES {
        return Ok(());
    }
    Err(Error::Limit {
        what: "the number of entries".into(),
        would_be: entries as u64 + 1,
        limit: MAX_META_ENTRIES as u64,
        remedy: "delete join tokens that are no longer needed",
    })
}
