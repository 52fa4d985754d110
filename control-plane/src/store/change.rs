//! What can be asked of the store in one transaction, and what came of it.

use super::Stored;
use std::{fmt, sync::Arc};
use weir_config::resources::{Document, Key};

/// A transaction: all of it is done, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In this order; a key may occur once.
    pub changes: Vec<Change>,
    /// Only say what would come of it.
    pub dry_run: bool,
}

impl Batch {
    /// Puts all these documents, whatever is there.
    pub fn put_all(documents: impl IntoIterator<Item = Document>) -> Self {
        let put = |document| Change::Put { document: Arc::new(document), expect: Expect::Any };
        Self { changes: documents.into_iter().map(put).collect(), dry_run: false }
    }
}

impl From<Change> for Batch {
    fn from(change: Change) -> Self {
        Self { changes: vec![change], dry_run: false }
    }
}

/// One change of one document.
#[derive(Debug, Clone)]
pub enum Change {
    /// The document is there as written, created if need be.
    Put {
        /// What the operator wrote.
        document: Arc<Document>,
        /// What must hold before.
        expect: Expect,
    },
    /// The document is gone.
    Delete {
        /// Which.
        key: Key,
        /// What must hold before; with [`Expect::Absent`] the change does nothing where there is no such document.
        expect: Expect,
    },
}

impl Change {
    /// The document it is about.
    pub fn key(&self) -> Key {
        match self {
            Self::Put { document, .. } => document.key(),
            Self::Delete { key, .. } => key.clone(),
        }
    }
}

/// What must hold of a document before it is changed (optimistic concurrency).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// It does not exist.
    Absent,
    /// It exists, and this is its resource version.
    Version(u64),
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Absent => f.write_str("no such document"),
            Self::Version(version) => write!(f, "resource version {version}"),
        }
    }
}

/// What came of a transaction.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The store's version after it: a new one if anything changed, otherwise the one before. Of a dry run: the one that
    /// it would have made.
    pub version: u64,
    /// One for each change, in the order asked.
    pub outcomes: Vec<Outcome>,
}

impl Applied {
    /// Whether anything changed.
    pub fn changed(&self) -> bool {
        self.outcomes.iter().any(|o| o.action != Action::Unchanged)
    }
}

/// What came of one change.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which document.
    pub key: Arc<Key>,
    /// What was done.
    pub action: Action,
    /// The document as it is now; as it was, if it was deleted; `None` if there was nothing to delete.
    pub stored: Option<Arc<Stored>>,
}

/// What was done to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Created,
    /// It was there, and is different now.
    Updated,
    /// It was as asked before.
    Unchanged,
    /// It is gone.
    Deleted,
}

impl Action {
    /// The word for people and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}
