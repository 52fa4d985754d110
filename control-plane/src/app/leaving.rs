//! Whose sidecar goes down is kept in the store: all replicas tell it to the callers, and one that starts knows it, too.
//! There is one entry for the whole mesh; who changes it does so on what it has read.

use crate::{
    fleet::{Fleet, Leaving, MOST_LEAVING, News},
    leader::Standing,
    store::{Error, MetaExpect, Store},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_config::{
    model::Health,
    resources::{Document, Key, Kind},
};

/// Where it is kept: nodes, as a JSON array.
const ENTRY: &str = "leaving";
/// What is kept of them, in bytes; above, callers find out themselves.
const MOST_BYTES: usize = 900_000;
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// Workloads that are no more are taken off the list so often.
const SWEEP: Duration = Duration::from_secs(60);
/// So often others may be quicker, one after the other.
const TURNS: usize = 32;

/// The list, in the store and in the fleet.
pub(super) struct Leavings {
    pub(super) store: Arc<dyn Store>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) leader: watch::Receiver<Standing>,
}

impl Leavings {
    /// Knows what is kept, before the first sidecar is told anything.
    pub(super) async fn begin(self) -> Arc<Self> {
        let this = Arc::new(self);
        this.clone().look(false, true).await;
        this
    }

    /// Follows until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (mut told, mut others) = (self.fleet.told(), self.store.watch_meta(ENTRY));
        let (mut swept, mut done) = (Instant::now(), true);
        loop {
            tokio::select! {
                // The fleet is there as long as we are.
                _ = told.changed() => {}
                () = heard(&mut others) => {}
                () = tokio::time::sleep(if done { SWEEP } else { AGAIN }) => {}
                () = stop.cancelled() => return,
            }
            let now = Instant::now();
            let sweep = now.duration_since(swept) >= SWEEP && self.leader.borrow().leads(now);
            if sweep {
                swept = now;
            }
            done = self.clone().look(sweep, done).await;
        }
    }

    /// Whether the store was at hand. `before`: it was the last time; a failure is told once.
    async fn look(self: Arc<Self>, sweep: bool, before: bool) -> bool {
        match tokio::task::spawn_blocking(move || self.step(sweep)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                if before {
                    tracing::warn!(%error, "other replicas are not told yet whose sidecar goes down");
                }
                false
            }
            Err(_) => false,
        }
    }

    /// Reads what is kept, adds what is new, and tells the fleet.
    fn step(&self, sweep: bool) -> Result<(), Error> {
        for _ in 0..TURNS {
            let found = self.store.meta(ENTRY)?;
            let kept = decode(found.as_deref());
            let news = self.fleet.news();
            let next = self.next(&kept, &news, sweep);
            if next != kept {
                let expect = found.as_deref().map_or(MetaExpect::Absent, MetaExpect::Value);
                let bytes = encode(&next);
                match self.store.set_meta(ENTRY, expect, (!next.is_empty()).then_some(&bytes[..])) {
                    Ok(()) => {}
                    Err(Error::MetaConflict { .. }) => continue,
                    Err(error) => {
                        self.fleet.kept(kept, &News::new());
                        return Err(error);
                    }
                }
            }
            self.fleet.kept(next, &news);
            return Ok(());
        }
        Err(Error::MetaConflict { name: ENTRY.into() })
    }

    fn next(&self, kept: &Leaving, news: &News, sweep: bool) -> Leaving {
        let mut next = kept.clone();
        for (node, leaves) in news {
            if !leaves {
                next.remove(node);
            } else if self.health(node) == Some(Health::Healthy) {
                next.insert(node.clone());
            }
        }
        if sweep {
            next.retain(|node| self.health(node).is_some());
        }
        let mut bytes = 0;
        next.into_iter()
            .take_while(|node| {
                bytes += node.len() + 3;
                bytes <= MOST_BYTES
            })
            .take(MOST_LEAVING)
            .collect()
    }

    /// What the documents say of a workload. Where they say that it goes (a pod that is being deleted), every replica knows
    /// it from them; where they know no such workload, nobody is told of it.
    fn health(&self, node: &str) -> Option<Health> {
        let (namespace, name) = node.split_once('/')?;
        match &*self.store.get(&Key::new(Kind::Workload, namespace, name))?.document {
            Document::Workload(workload) => Some(workload.spec.health),
            _ => None,
        }
    }
}

/// Returns when the others may have said something.
async fn heard(others: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = others {
        if receiver.changed().await.is_ok() {
            return;
        }
        *others = None;
    }
    std::future::pending::<()>().await;
}

/// What a later version writes differently is as if nothing were kept: callers find out themselves.
fn decode(bytes: Option<&[u8]>) -> Leaving {
    let names: Vec<String> = bytes.and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default();
    names.into_iter().map(Into::into).collect()
}

fn encode(leaving: &Leaving) -> Vec<u8> {
    // Text: this cannot fail.
    serde_json::to_vec(&leaving.iter().map(|n| &**n).collect::<Vec<_>>()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
