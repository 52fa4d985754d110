//! All documents at one version, immutable and shared: what readers see, and what the next change starts from.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use weir_config::resources::{Document, Key, Kind};

/// A document and what the store knows of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stored {
    /// What the operator wrote; its metadata says the rest of this too, as Kubernetes writes it.
    pub document: Arc<Document>,
    /// Tells a document from an earlier one of the same name: a random UUID given when it is created.
    pub uid: Arc<str>,
    /// The version of the transaction that last changed it.
    pub resource_version: u64,
    /// Counts the changes of its `spec`, from 1.
    pub generation: u64,
    /// When it was created; route precedence asks for it.
    pub created: OffsetDateTime,
}

impl Stored {
    /// A document of which the store knows this; it is written into the document's metadata.
    pub(super) fn new(
        mut document: Document,
        uid: Arc<str>,
        version: u64,
        generation: u64,
        created: OffsetDateTime,
    ) -> Self {
        let metadata = document.metadata_mut();
        metadata.uid = Some(uid.to_string());
        metadata.resource_version = Some(version.to_string());
        metadata.generation = Some(generation);
        metadata.creation_timestamp = created.replace_nanosecond(0).unwrap_or(created).format(&Rfc3339).ok();
        Self { document: Arc::new(document), uid, resource_version: version, generation, created }
    }
}

/// All documents as they were after the transaction `version`.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    version: u64,
    documents: BTreeMap<Arc<Key>, Arc<Stored>>,
}

impl Snapshot {
    /// From what was read from disk.
    pub(super) fn new(version: u64, documents: BTreeMap<Arc<Key>, Arc<Stored>>) -> Self {
        Self { version, documents }
    }

    /// The version of the last transaction that changed anything; 0: none has.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One document.
    pub fn find(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.documents.get(key)
    }

    /// All documents, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<Key>, &Arc<Stored>)> {
        self.documents.iter()
    }

    /// The documents of a kind, in one namespace or all, by namespace and name.
    pub fn list<'a>(&'a self, kind: Kind, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Stored>> {
        let from = Key::new(kind, namespace.unwrap_or(""), "");
        self.documents
            .range::<Key, _>((Bound::Included(&from), Bound::Unbounded))
            .take_while(move |(key, _)| key.kind == kind && namespace.is_none_or(|ns| &*key.namespace == ns))
            .map(|(_, stored)| stored)
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// This snapshot after some writes; what they do not touch is shared.
    pub(super) fn after(&self, version: u64, writes: &[Write]) -> Self {
        let mut documents = self.documents.clone();
        for write in writes {
            match &write.stored {
                Some(stored) => documents.insert(write.key.clone(), stored.clone()),
                None => documents.remove(&write.key),
            };
        }
        Self { version, documents }
    }
}

/// One line of a transaction: a document as it is from now on, or its end.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) key: Arc<Key>,
    pub(super) stored: Option<Arc<Stored>>,
}
