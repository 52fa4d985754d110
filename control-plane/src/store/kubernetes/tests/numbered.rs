//! A store whose versions are counted from 1, as the suite of all stores expects: Kubernetes gives every object its own
//! number. That is all that the suite does not ask of this store.

use super::NAMESPACES;
use crate::store::{Applied, Batch, Change, Error, Expect, MetaExpect, Snapshot, Store, Stored};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tokio::sync::watch;
use weir_config::resources::{Document, Key};

pub(super) struct Numbered<S> {
    store: S,
    published: watch::Sender<Arc<Snapshot>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Each document's real version, its number, and how it is shown.
    shown: BTreeMap<Arc<Key>, (u64, Arc<Stored>)>,
    /// The real version of a number of a document.
    real: HashMap<(Key, u64), u64>,
}

impl<S: Store> Numbered<S> {
    pub(super) fn new(store: S) -> Self {
        let snapshot = store.snapshot();
        assert!(!snapshot.iter().any(|(key, _)| is_the_tests(key)), "the tests' namespaces are empty at first");
        Self { store, published: watch::Sender::new(Arc::default()), inner: Mutex::default() }
    }

    /// The snapshot as the suite knows it: what changed since the last one has the next number.
    fn show(&self, count: bool) -> u64 {
        let before = self.published.borrow().version();
        let number = before + u64::from(count);
        let snapshot = self.store.snapshot();
        let mut inner = self.inner.lock();
        let mut shown = BTreeMap::new();
        for (key, stored) in snapshot.iter().filter(|(key, _)| is_the_tests(key)) {
            let known = inner.shown.get(key).filter(|(real, _)| *real == stored.resource_version).cloned();
            let known = known.unwrap_or_else(|| {
                inner.real.insert((Key::clone(key), number), stored.resource_version);
                let document = Document::clone(&stored.document);
                let renumbered = Stored::new(document, stored.uid.clone(), number, stored.generation, stored.created);
                (stored.resource_version, Arc::new(renumbered))
            });
            shown.insert(key.clone(), known);
        }
        let documents = shown.iter().map(|(key, (_, stored))| (key.clone(), stored.clone())).collect();
        inner.shown = shown;
        if count {
            self.published.send_replace(Arc::new(Snapshot::new(number, documents)));
        }
        number
    }

    fn real(&self, batch: &Batch) -> Batch {
        let inner = self.inner.lock();
        // A number that no document has is a version that no document has.
        let real = |key: &Key, number: u64| inner.real.get(&(key.clone(), number)).copied().unwrap_or(u64::MAX);
        let expected = |key: &Key, expect: Expect| match expect {
            Expect::Version(number) => Expect::Version(real(key, number)),
            other => other,
        };
        let change = |change: &Change| match change {
            Change::Delete { key, expect } => Change::Delete { key: key.clone(), expect: expected(key, *expect) },
            Change::Put { document, expect } => {
                let (key, mut document) = (document.key(), Document::clone(document));
                if let Some(version) = &mut document.metadata_mut().resource_version {
                    *version = real(&key, version.parse().unwrap()).to_string();
                }
                Change::Put { document: Arc::new(document), expect: expected(&key, *expect) }
            }
        };
        Batch { changes: batch.changes.iter().map(change).collect(), dry_run: batch.dry_run }
    }
}

fn is_the_tests(key: &Key) -> bool {
    NAMESPACES.contains(&&*key.namespace)
}

impl<S: Store> Store for Numbered<S> {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.published.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let before = self.store.snapshot().version();
        let applied = self.store.apply(&self.real(batch));
        let inner = |found: Option<u64>, key: &Key| {
            let inner = self.inner.lock();
            found.and_then(|real| inner.real.iter().find(|((k, _), r)| k == key && **r == real).map(|((_, n), _)| *n))
        };
        let mut applied = applied.map_err(|error| match error {
            Error::Conflict { key, expected, found } => Error::Conflict { found: inner(found, &key), key, expected },
            other => other,
        })?;
        let changed = applied.changed();
        assert_eq!(
            self.store.snapshot().version() > before,
            changed && !batch.dry_run,
            "readers see it, and only then"
        );
        if batch.dry_run {
            applied.version = self.published.borrow().version() + u64::from(changed);
            return Ok(applied);
        }
        let old = self.snapshot();
        applied.version = self.show(changed);
        for outcome in &mut applied.outcomes {
            let now = self.snapshot().find(&outcome.key).or(old.find(&outcome.key)).cloned();
            outcome.stored = outcome.stored.is_some().then_some(now).flatten();
        }
        Ok(applied)
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.store.meta(name)
    }

    fn set_meta(&self, name: &str, expect: MetaExpect<'_>, value: Option<&[u8]>) -> Result<(), Error> {
        self.store.set_meta(name, expect, value)
    }

    fn meta_names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.store.meta_names(prefix)
    }
}
