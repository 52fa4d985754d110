//! From what is told of the cluster to snapshots: one for whatever came together.

use super::{server, state::Refused, state::State};
use crate::{
    kubernetes::{Known, object, watch::Told},
    metrics::Metrics,
    store::{Error, Snapshot},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use weir_config::resources::Key;

/// So many events at most make one snapshot: readers are not kept waiting by a flood.
const AT_ONCE: usize = 4096;
/// So many objects that are not accepted are named in the log at once.
const SAID: usize = 20;
/// The longest that a transaction of ours keeps its documents back from readers, so that they see all of them at once.
const HELD: Duration = Duration::from_secs(20);

/// Where the follower is.
pub(super) struct Followed {
    inner: Mutex<Inner>,
    /// What readers see.
    published: watch::Sender<Arc<Snapshot>>,
    /// What is known, also while it is kept back.
    draft: watch::Sender<Arc<Snapshot>>,
    refused: watch::Sender<Arc<BTreeMap<Key, Refused>>>,
    whole: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    state: State,
    held: Option<Instant>,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            published: watch::Sender::new(Arc::default()),
            draft: watch::Sender::new(Arc::default()),
            refused: watch::Sender::new(Arc::default()),
            whole: watch::Sender::new(false),
        }
    }
}

impl Followed {
    /// Takes what is told until nobody tells any more.
    pub(super) async fn follow(&self, mut told: mpsc::Receiver<Told>, metrics: &Metrics) {
        let mut batch = Vec::new();
        while told.recv_many(&mut batch, AT_ONCE).await > 0 {
            self.take(batch.drain(..));
            metrics.store_connected.set(1);
        }
    }

    /// Takes events, and shows what they make of the documents.
    pub(super) fn take(&self, events: impl Iterator<Item = Told>) {
        let mut inner = self.inner.lock();
        let refused = inner.state.refused_changes();
        for event in events {
            inner.state.take(event);
        }
        // What is not whole is shown to nobody: services without their instances would be a change for the worse.
        if !inner.state.is_whole() {
            return;
        }
        let writes = inner.state.changes();
        let before = self.draft.borrow().clone();
        let begins = !*self.whole.borrow();
        if !writes.is_empty() || begins {
            let version = inner.state.version().max(before.version() + 1);
            let next = Arc::new(before.after(version, &writes));
            self.draft.send_replace(next.clone());
            if inner.held.is_none_or(|since| since.elapsed() > HELD) {
                self.published.send_replace(next);
            }
        } else {
            // An object was written and its document is the same: who waits for that version looks.
            self.draft.send_modify(|_| {});
        }
        if inner.state.refused_changes() != refused || begins {
            let now = Arc::new(inner.state.refused().clone());
            let before = self.refused.send_replace(Arc::clone(&now));
            say(&before, &now);
        }
        drop(inner);
        if begins {
            self.whole.send_replace(true);
        }
    }

    /// Waits until everything has been read once.
    pub(super) async fn whole(&self, limit: Duration) -> Result<(), Error> {
        let mut whole = self.whole.subscribe();
        match tokio::time::timeout(limit, whole.wait_for(|whole| *whole)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(server::error(
                "not everything could be read in time; the log says what",
                "give the control plane's service account the right to list and watch (`weir install` prints the roles)",
            )),
        }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.published.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    pub(super) fn refused(&self) -> watch::Receiver<Arc<BTreeMap<Key, Refused>>> {
        self.refused.subscribe()
    }

    /// What is known, whether readers see it yet or not.
    pub(super) fn draft(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.draft.subscribe()
    }

    /// The documents that are known, and what the objects behind some of them were last seen as, of one moment.
    pub(super) fn view<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> (Arc<Snapshot>, Vec<Option<Known>>) {
        let inner = self.inner.lock();
        let known = keys.map(|key| inner.state.known(key).cloned()).collect();
        (self.draft.borrow().clone(), known)
    }

    /// Until the guard is dropped, changes are kept back from readers.
    pub(super) fn hold(&self) -> Held<'_> {
        self.inner.lock().held = Some(Instant::now());
        Held(self)
    }
}

/// Objects that have no status of ours are told of here, or nobody would know why they count for nothing.
fn say(before: &BTreeMap<Key, Refused>, now: &BTreeMap<Key, Refused>) {
    let told = |key: &Key, refused: &Refused| before.get(key).is_some_and(|b| b.issues == refused.issues);
    let new = now.iter().filter(|(key, refused)| !object::KINDS.contains(&key.kind) && !told(key, refused));
    for (n, (key, refused)) in new.enumerate() {
        if n == SAID {
            tracing::warn!("more objects of the cluster are not accepted");
            return;
        }
        let why: Vec<_> = refused.issues.iter().map(ToString::to_string).collect();
        tracing::warn!(object = %key, why = why.join("; "), "not accepted; where it had a good version, that one holds");
    }
}

/// See [`Followed::hold`].
pub(super) struct Held<'a>(&'a Followed);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.held = None;
        let draft = self.0.draft.borrow().clone();
        self.0.published.send_if_modified(|published| {
            let differs = !Arc::ptr_eq(published, &draft);
            if differs {
                *published = draft.clone();
            }
            differs
        });
    }
}
