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

/// The documents of one kind in one namespace.
type Part = BTreeMap<Arc<Key>, Arc<Stored>>;
/// The documents of one kind, by namespace.
type Parts = BTreeMap<Arc<str>, Arc<Part>>;

/// All documents as they were after the transaction `version`.
///
/// They are kept in parts, by kind and namespace, and a transaction copies only the parts that it changes: in a large mesh
/// instances come and go all the time, and whoever follows sees at once what is as it was.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    version: u64,
    count: usize,
    kinds: BTreeMap<Kind, Arc<Parts>>,
}

impl Snapshot {
    /// From what was read from disk.
    pub(super) fn new(version: u64, documents: BTreeMap<Arc<Key>, Arc<Stored>>) -> Self {
        let mut snapshot = Self { version, ..Self::default() };
        for (key, stored) in documents {
            snapshot.put(&key, &stored);
        }
        snapshot
    }

    /// The version of the last transaction that changed anything; 0: none has.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One document.
    pub fn find(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.kinds.get(&key.kind)?.get(&key.namespace)?.get(key)
    }

    /// All documents, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Key>, &Arc<Stored>)> {
        self.kinds.values().flat_map(|of_kind| of_kind.values()).flat_map(|part| part.iter())
    }

    /// The documents of a kind with their keys, in one namespace or all, by namespace and name.
    pub fn entries<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Arc<Key>, &'a Arc<Stored>)> {
        let from = namespace.map_or(Bound::Unbounded, Bound::Included);
        let to = namespace.map_or(Bound::Unbounded, Bound::Included);
        let of_kind = self.kinds.get(&kind).into_iter();
        of_kind.flat_map(move |of_kind| of_kind.range::<str, _>((from, to))).flat_map(|(_, part)| part.iter())
    }

    /// The documents of a kind, in one namespace or all, by namespace and name.
    pub fn list<'a>(&'a self, kind: Kind, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Stored>> {
        self.entries(kind, namespace).map(|(_, stored)| stored)
    }

    /// The namespaces that have documents of a kind, by name.
    pub fn namespaces(&self, kind: Kind) -> impl Iterator<Item = &Arc<str>> {
        self.kinds.get(&kind).into_iter().flat_map(|of_kind| of_kind.keys())
    }

    /// Whether all documents of a kind are those of another snapshot. It is seen without looking at them: of two snapshots
    /// one of which did not come from the other, this may be `false` though they are alike.
    pub fn shares(&self, other: &Self, kind: Kind) -> bool {
        same(self.kinds.get(&kind), other.kinds.get(&kind))
    }

    /// The same of one namespace.
    pub fn shares_in(&self, other: &Self, kind: Kind, namespace: &str) -> bool {
        let part = |snapshot: &Self| snapshot.kinds.get(&kind).and_then(|of_kind| of_kind.get(namespace)).cloned();
        same(part(self).as_ref(), part(other).as_ref())
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// This snapshot after some writes; what they do not touch is shared.
    pub(super) fn after(&self, version: u64, writes: &[Write]) -> Self {
        let mut next = Self { version, ..self.clone() };
        for write in writes {
            match &write.stored {
                Some(stored) => next.put(&write.key, stored),
                None => next.remove(&write.key),
            }
        }
        next
    }

    fn put(&mut self, key: &Arc<Key>, stored: &Arc<Stored>) {
        let of_kind = Arc::make_mut(self.kinds.entry(key.kind).or_default());
        let part = Arc::make_mut(of_kind.entry(key.namespace.clone()).or_default());
        self.count += usize::from(part.insert(key.clone(), stored.clone()).is_none());
    }

    fn remove(&mut self, key: &Key) {
        // What is not there leaves everything shared.
        if self.find(key).is_none() {
            return;
        }
        let Some(of_kind) = self.kinds.get_mut(&key.kind).map(Arc::make_mut) else { return };
        let Some(part) = of_kind.get_mut(&key.namespace).map(Arc::make_mut) else { return };
        self.count -= usize::from(part.remove(key).is_some());
        if part.is_empty() {
            of_kind.remove(&key.namespace);
        }
        if of_kind.is_empty() {
            self.kinds.remove(&key.kind);
        }
    }
}

fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// One line of a transaction: a document as it is from now on, or its end.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) key: Arc<Key>,
    pub(super) stored: Option<Arc<Stored>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Change, Expect, Memory, Store};
    use weir_config::resources::parse;

    fn service(name: &str, namespace: &str) -> Batch {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{ports: [{{port: 80}}]}}}}"
        );
        Batch::put_all(parse("t", &text).unwrap())
    }

    #[test]
    fn a_transaction_copies_only_what_it_changes() {
        let store = Memory::default();
        for (name, namespace) in [("a", "one"), ("b", "one"), ("a", "two")] {
            store.apply(&service(name, namespace)).unwrap();
        }
        let before = store.snapshot();
        store.apply(&service("c", "two")).unwrap();
        let after = store.snapshot();
        assert!(after.shares_in(&before, Kind::Service, "one") && after.shares(&before, Kind::Workload));
        assert!(!after.shares_in(&before, Kind::Service, "two") && !after.shares(&before, Kind::Service));
        assert_eq!((before.len(), after.len(), after.iter().count()), (3, 4, 4));
        let names =
            |namespace| -> Vec<_> { after.entries(Kind::Service, namespace).map(|(key, _)| key.to_string()).collect() };
        assert_eq!(names(None), ["Service/one/a", "Service/one/b", "Service/two/a", "Service/two/c"]);
        assert_eq!(names(Some("two")), ["Service/two/a", "Service/two/c"]);
        assert!(names(Some("thre")).is_empty());

        // The last of a namespace takes its part with it.
        for (name, _) in [("a", ()), ("c", ())] {
            let key = Key::new(Kind::Service, "two", name);
            store.apply(&Change::Delete { key, expect: Expect::Any }.into()).unwrap();
        }
        let rest = store.snapshot();
        assert_eq!(rest.namespaces(Kind::Service).map(|n| &**n).collect::<Vec<_>>(), ["one"]);
        assert_eq!(rest.len(), 2);
    }
}
