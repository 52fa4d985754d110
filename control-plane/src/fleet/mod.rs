//! What the proxies hold: who is connected, what each was sent, applied or refused, and what became of each change.
//!
//! A change is a version of the documents. It *concerns* a connected proxy if something that the proxy subscribes to is
//! different by it; the proxy has *applied* it once it has acknowledged all of that. A stream reports through its
//! [`Seat`]; leaving the seat is disconnecting.

mod change;
mod leaving;
mod proxy;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

pub use change::ChangeStatus;
pub use leaving::{Leaving, MOST_LEAVING, News};
pub use proxy::{LastRefusal, ProxyStatus, Who};
pub use trust::{Trust, Trusting};

use crate::{
    machine::{Refusal, Standing},
    metrics::Metrics,
};
use change::Changes;
use indexmap::IndexMap;
use parking_lot::Mutex;
use proxy::Connected;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;
use weir_config::model::Kind;

/// How many proxies that have left are remembered.
const GONE: usize = 1_000;

/// The status of all proxies and of the last changes.
#[derive(Debug)]
pub struct Fleet {
    inner: Mutex<Inner>,
    news: watch::Sender<u64>,
    leaving: watch::Sender<Arc<Leaving>>,
    /// Counts what was said of leaving.
    told: watch::Sender<u64>,
    /// Behind `inner`, where both are locked.
    book: Mutex<leaving::Book>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    connected: BTreeMap<u64, Connected>,
    /// By node, the longest gone first.
    gone: IndexMap<String, ProxyStatus>,
    changes: Changes,
}

impl Fleet {
    /// Nobody connected, nothing changed.
    pub fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            news: watch::Sender::new(0),
            leaving: watch::Sender::default(),
            told: watch::Sender::new(0),
            book: Mutex::default(),
            metrics,
        })
    }

    /// A change was stored now. Idempotent: both who follows the store and each stream may say it.
    pub fn changed(&self, version: u64) {
        if self.inner.lock().changes.note(version, Instant::now()) {
            self.metrics.version.set(i64::try_from(version).unwrap_or(i64::MAX));
            self.tell();
        }
    }

    /// A proxy connects. It is gone when the seat is dropped.
    pub fn connect(self: &Arc<Self>, who: Who) -> Seat {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let id = inner.next;
        inner.gone.shift_remove(&who.node);
        self.metrics.connected.with_label_values(&[who.protocol]).inc();
        inner.connected.insert(id, Connected::new(who));
        drop(inner);
        self.tell();
        Seat { fleet: Arc::clone(self), id }
    }

    /// All proxies that are, or not long ago were, connected; by node.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        let inner = self.inner.lock();
        let mut all: Vec<_> = inner.connected.values().map(Connected::status).collect();
        all.extend(inner.gone.values().cloned());
        drop(inner);
        all.sort_by(|a, b| (&a.who.node, a.since).cmp(&(&b.who.node, b.since)));
        all
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.inner.lock().connected.len()
    }

    /// The last changes (at most 1,000), the newest first.
    pub fn changes(&self) -> Vec<ChangeStatus> {
        let inner = self.inner.lock();
        let looked = inner.looked();
        inner.changes.all().rev().map(|c| c.status(looked)).collect()
    }

    /// What became of a version. A version that was overtaken before anybody saw it is answered for by the one that
    /// overtook it. `None`: not seen yet, or too long ago.
    pub fn change(&self, version: u64) -> Option<ChangeStatus> {
        let inner = self.inner.lock();
        let looked = inner.looked();
        inner.changes.at(version).map(|c| c.status(looked))
    }

    /// Wakes whenever something above may say something else.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Waits until no connected proxy is left that has neither applied nor refused a version, or until the time is over.
    pub async fn wait(&self, version: u64, limit: Duration) -> Option<ChangeStatus> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut news = self.watch();
        loop {
            news.borrow_and_update();
            let now = self.change(version);
            if now.as_ref().is_some_and(|c| c.complete) {
                return now;
            }
            match tokio::time::timeout_at(deadline, news.changed()).await {
                Ok(Ok(())) => {}
                _ => return self.change(version),
            }
        }
    }

    fn tell(&self) {
        self.news.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl Inner {
    /// The version that every connected proxy's stream has looked at.
    fn looked(&self) -> u64 {
        self.connected.values().map(|c| c.looked).min().unwrap_or(u64::MAX)
    }
}

/// A connected proxy's place, through which its stream reports.
#[derive(Debug)]
pub struct Seat {
    fleet: Arc<Fleet>,
    id: u64,
}

impl Seat {
    /// The stream has looked at a version, and it concerns the proxy, or not.
    pub fn looked(&self, version: u64, concerned: bool) {
        self.fleet.changed(version);
        let mut inner = self.fleet.inner.lock();
        let Inner { connected, changes, .. } = &mut *inner;
        let Some(proxy) = connected.get_mut(&self.id) else { return };
        let from = proxy.looked;
        proxy.looked = version.max(from);
        if concerned {
            // Versions that came in a burst were looked at as one.
            for change in changes.between(from, version) {
                change.concerns(self.id);
                proxy.waiting.push_back(change.version);
            }
            // Changes so old are forgotten anyway.
            while proxy.waiting.len() > change::KEPT {
                proxy.waiting.pop_front();
            }
        }
        drop(inner);
        self.fleet.tell();
    }

    /// The stream stands here: `behind_since` is the first change the proxy has not settled yet.
    pub fn progress(&self, behind_since: Option<u64>, standings: [(Kind, Standing); 5]) {
        let now = Instant::now();
        let mut inner = self.fleet.inner.lock();
        let Inner { connected, changes, .. } = &mut *inner;
        let Some(proxy) = connected.get_mut(&self.id) else { return };
        proxy.standings = standings;
        proxy.behind_since = behind_since;
        let settled = behind_since.unwrap_or(u64::MAX);
        while let Some(version) = proxy.waiting.front().copied().filter(|v| *v < settled) {
            proxy.waiting.pop_front();
            if let Some(took) = changes.exactly(version).and_then(|c| c.applied(self.id, now)) {
                self.fleet.metrics.convergence.observe(took.as_secs_f64());
            }
        }
        drop(inner);
        self.fleet.tell();
    }

    /// The proxy has refused something.
    pub fn refused(&self, refusal: &Refusal) {
        let mut inner = self.fleet.inner.lock();
        let Inner { connected, changes, .. } = &mut *inner;
        let Some(proxy) = connected.get_mut(&self.id) else { return };
        if let Some(since) = refusal.since {
            for version in proxy.waiting.iter().filter(|v| (since..=refusal.world).contains(*v)) {
                if let Some(change) = changes.exactly(*version) {
                    change.refused(self.id);
                }
            }
            proxy.waiting.retain(|v| !(since..=refusal.world).contains(v));
        }
        proxy.last_refusal = Some(LastRefusal {
            at: SystemTime::now(),
            kind: refusal.kind,
            names: refusal.names.iter().take(32).cloned().collect(),
            message: refusal.message.clone(),
        });
        drop(inner);
        self.fleet.tell();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.fleet.inner.lock();
        if let Some(proxy) = inner.connected.remove(&self.id) {
            for version in &proxy.waiting {
                if let Some(change) = inner.changes.exactly(*version) {
                    change.left(self.id);
                }
            }
            self.fleet.metrics.connected.with_label_values(&[proxy.who.protocol]).dec();
            let again = inner.connected.values().any(|c| c.who.node == proxy.who.node);
            if !again {
                if inner.gone.len() >= GONE {
                    inner.gone.shift_remove_index(0);
                }
                inner.gone.insert(proxy.who.node.clone(), proxy.left());
            }
        }
        drop(inner);
        self.fleet.tell();
    }
}
