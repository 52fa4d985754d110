//! What each of the last changes was about, in words: a store that remembers it while it passes changes on.

use crate::{
    fleet::Fleet,
    store::{Action, Applied, Batch, Error, MetaExpect, Snapshot, Store},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// As many as the fleet remembers.
const KEPT: usize = 1_000;

/// Versions and what they were about.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<BTreeMap<u64, String>>);

impl History {
    /// What a change was about; empty if that was before this process, or too long ago.
    pub(super) fn summary(&self, version: u64) -> String {
        self.0.lock().get(&version).cloned().unwrap_or_default()
    }

    /// The documents that were there at the start are a change too: of every proxy that connects, it is known whether it
    /// has them.
    pub(super) fn start(&self, snapshot: &Snapshot, fleet: &Fleet) {
        if snapshot.version() > 0 {
            self.0.lock().insert(snapshot.version(), format!("{} documents at the start", snapshot.len()));
            fleet.changed(snapshot.version());
        }
    }

    fn note(&self, applied: &Applied) {
        let mut all = self.0.lock();
        all.insert(applied.version, summary(applied));
        while all.len() > KEPT {
            all.pop_first();
        }
    }
}

/// `TrafficPolicy/demo/web updated and 3 more`
fn summary(applied: &Applied) -> String {
    let mut changed = applied.outcomes.iter().filter(|o| o.action != Action::Unchanged);
    let Some(first) = changed.next() else { return String::new() };
    let first = format!("{} {}", first.key, first.action.as_str());
    match changed.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// A store whose changes are remembered, and told to the fleet the moment they are stored, whoever made them.
pub(super) struct Recorded {
    store: Arc<dyn Store>,
    history: Arc<History>,
    fleet: Arc<Fleet>,
}

impl Recorded {
    /// Around `store`.
    pub(super) fn new(store: Arc<dyn Store>, history: Arc<History>, fleet: Arc<Fleet>) -> Self {
        Self { store, history, fleet }
    }
}

impl Store for Recorded {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.store.watch()
    }

    fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let applied = self.store.apply(batch)?;
        if !batch.dry_run && applied.changed() {
            self.history.note(&applied);
            self.fleet.changed(applied.version);
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

    fn watch_meta(&self, name: &str) -> Option<watch::Receiver<u64>> {
        self.store.watch_meta(name)
    }
}
