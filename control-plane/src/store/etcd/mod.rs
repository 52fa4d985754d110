//! The store on etcd (v3), for several control planes that share one set of documents.
//!
//! A transaction of ours is one transaction of etcd that moves `head`: it goes through only if `head` is as it was when
//! the transaction was worked out, so all of them are in one order, and every replica that follows `head` comes by the
//! same versions. A batch that is too large for that is laid down in parts first; the small transaction that moves
//! `head` makes it count, whole, and whoever comes next puts the documents in their places (`commit`). Readers see a
//! snapshot in memory that follows `head` (`follow`).
//!
//! The port is synchronous and etcd is not: calls run on a thread of their own, and who calls waits for them.

mod client;
mod commit;
mod entry;
mod follow;
mod layout;
mod lease;
#[cfg(test)]
mod secured;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod wire;

pub use client::EtcdOptions;
pub use lease::EtcdLease;

use super::{Applied, Batch, Error, MAX_META_ENTRIES, MetaExpect, Snapshot, Store, ledger, meta_fits, meta_room};
use crate::metrics::Metrics;
use client::{Client, passes};
use layout::{Head, Layout};
use parking_lot::Mutex;
use prost::Message;
use std::{
    future::Future,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::{runtime::Runtime, sync::watch};
use tonic::{Code, Status};
use wire::{Compare, Op, RangeRequest, RangeResponse, TxnRequest, TxnResponse};

/// The longest that one call of the store takes; an etcd of three has a new leader long before.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a transaction is worked out anew because others were quicker.
const TURNS: u32 = 64;

/// Documents in etcd.
pub struct Etcd {
    shared: Arc<Shared>,
    /// Transactions of this process take turns, so that they do not get in each other's way at etcd.
    writing: Mutex<()>,
    runtime: Option<Runtime>,
}

/// What the calls and the follower share.
struct Shared {
    client: Client,
    layout: Layout,
    known: Mutex<Known>,
    /// Where the follower is: the revision of the last `head` seen.
    revision: watch::Sender<i64>,
    published: watch::Sender<Arc<Snapshot>>,
    metrics: Metrics,
}

/// What is known of etcd's content: documents and `head`, of one moment.
#[derive(Clone)]
struct Known {
    head: Head,
    /// The revision of etcd that wrote `head`; 0: there is none yet.
    revision: i64,
    snapshot: Arc<Snapshot>,
}

impl Etcd {
    /// Reads everything, and follows it from then on.
    ///
    /// # Errors
    /// The options make no sense, no member answers, or what is there cannot be read.
    pub fn open(options: &EtcdOptions, metrics: Metrics) -> Result<Self, Error> {
        let client = Client::new(options)?;
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("weir-etcd")
            .enable_all()
            .build();
        let runtime = started.map_err(|source| Error::Io {
            what: "starting a thread for etcd".into(),
            source,
            remedy: "give this process more threads",
        })?;
        let known = Known { head: Head::new(), revision: 0, snapshot: Arc::default() };
        let shared = Arc::new(Shared {
            client,
            layout: Layout::new(&options.prefix),
            known: Mutex::new(known),
            revision: watch::Sender::new(0),
            published: watch::Sender::new(Arc::default()),
            metrics,
        });
        let store = Self { shared: shared.clone(), writing: Mutex::new(()), runtime: Some(runtime) };
        let loading = shared.clone();
        let from = store.run(async move { loading.load(Instant::now() + PATIENCE).await })?;
        let follower = shared.clone();
        store.spawn(async move { follower.follow(from).await });
        Ok(store)
    }

    /// A leadership under etcd's lease, in the same etcd.
    pub fn lease(&self) -> EtcdLease {
        EtcdLease::new(self.shared.clone(), self.handle())
    }

    fn handle(&self) -> Option<tokio::runtime::Handle> {
        self.runtime.as_ref().map(|r| r.handle().clone())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// Waits for something that is done on etcd's thread.
    fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        run(self.handle().as_ref(), task)
    }

    /// Works the batch out on what is known and commits it; `None`: what is known was not the newest.
    fn attempt(&self, batch: &Batch, deadline: Instant) -> Result<Option<Applied>, Error> {
        let known = self.shared.known.lock().clone();
        if known.head.pending.is_some() {
            let shared = self.shared.clone();
            self.run(async move { shared.roll_forward(known, deadline).await })?;
            return Ok(None);
        }
        let planned = ledger::plan(&known.snapshot, batch, OffsetDateTime::now_utc());
        let plan = match planned {
            Ok(plan) if !batch.dry_run && !plan.writes.is_empty() => plan,
            // What was refused, or would change nothing, may be so only by what we have not heard of yet.
            other => {
                let shared = self.shared.clone();
                let newest = self.run(async move { shared.is_newest(known.revision, deadline).await })?;
                return if newest { other.map(|plan| Some(plan.applied)) } else { Ok(None) };
            }
        };
        let shared = self.shared.clone();
        let applied = plan.applied;
        let (writes, next) = (plan.writes, Arc::new(plan.next));
        let committed = self.run(async move { shared.commit(known, writes, next, deadline).await })?;
        Ok(committed.then_some(applied))
    }
}

/// Waits for something that is done on another runtime's threads.
fn run<T: Send + 'static>(
    handle: Option<&tokio::runtime::Handle>,
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let gone = || Error::Server { server: "etcd".into(), why: "this store has been closed".into(), remedy: "" };
    let (sender, receiver) = mpsc::sync_channel(1);
    handle.ok_or_else(gone)?.spawn(async move {
        // Nobody waits any more: it is done all the same.
        let _ = sender.send(task.await);
    });
    receiver.recv().map_err(|_| gone())?
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // An asynchronous caller must not wait for threads here.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store for Etcd {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.published.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.published.subscribe()
    }

    fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let deadline = Instant::now() + PATIENCE;
        let _turn = self.writing.lock();
        for turn in 0..TURNS {
            if let Some(applied) = self.attempt(batch, deadline)? {
                return Ok(applied);
            }
            // Others were quicker. They too come again: not all at the same moment.
            if turn > 0 {
                std::thread::sleep(Duration::from_millis(rand::random_range(0..=u64::from(turn.min(20)) * 5)));
            }
        }
        let why = format!("others wrote at the same time, {TURNS} times in a row");
        Err(self.shared.error(&why, "repeat the change"))
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let (shared, key) = (self.shared.clone(), self.shared.layout.meta(name));
        self.run(async move { shared.value(key, Instant::now() + PATIENCE).await })
    }

    fn set_meta(&self, name: &str, expect: MetaExpect<'_>, value: Option<&[u8]>) -> Result<(), Error> {
        meta_fits(name, value)?;
        let key = self.shared.layout.meta(name);
        let compare = match expect {
            MetaExpect::Any => Vec::new(),
            MetaExpect::Absent => vec![Compare::absent(&key)],
            MetaExpect::Value(value) => vec![Compare::exists(&key), Compare::has_value(&key, value)],
        };
        let (shared, wanted) = (self.shared.clone(), value.map(<[u8]>::to_vec));
        let written = self.run(async move { shared.set_value(key, compare, wanted).await })?;
        written.then_some(()).ok_or_else(|| Error::MetaConflict { name: name.to_owned() })
    }

    fn meta_names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (shared, start) = (self.shared.clone(), self.shared.layout.meta(prefix));
        self.run(async move {
            let request =
                RangeRequest { keys_only: true, limit: 2 * MAX_META_ENTRIES as i64, ..RangeRequest::prefix(&start) };
            let found: RangeResponse = shared.range(request, Instant::now() + PATIENCE).await?;
            Ok(found.kvs.iter().filter_map(|kv| shared.layout.meta_name(&kv.key)).collect())
        })
    }

    fn watch_meta(&self, name: &str) -> Option<watch::Receiver<u64>> {
        let (told, receiver) = watch::channel(0);
        self.spawn(entry::follow(self.shared.clone(), self.shared.layout.meta(name), told));
        Some(receiver)
    }
}

impl Shared {
    fn error(&self, why: &str, remedy: &'static str) -> Error {
        Error::Server { server: self.client.name(), why: why.to_owned(), remedy }
    }

    /// What an answer of etcd means for a person.
    fn refused(&self, status: &Status) -> Error {
        let remedy = match status.code() {
            Code::ResourceExhausted => "compact and defragment etcd, or raise its quota, then `etcdctl alarm disarm`",
            Code::PermissionDenied => "give the user the right to read and write under the prefix (`--etcd-prefix`)",
            Code::InvalidArgument => {
                "see whether `--etcd-user` and its password are right, and etcd's limits the usual"
            }
            _ if passes(status) => "see whether a majority of its members runs and is reachable from here",
            _ => "see etcd's log",
        };
        self.error(status.message(), remedy)
    }

    /// Calls until it is answered, as long as there is time; for what may be done twice.
    async fn again<Q, R>(&self, path: &'static str, request: Q, deadline: Instant) -> Result<R, Status>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        loop {
            match self.client.call(path, request.clone()).await {
                Err(status) if passes(&status) && Instant::now() < deadline => {
                    self.metrics.store_failures.inc();
                    tracing::debug!(path, code = ?status.code(), why = status.message(), "etcd is asked again");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    async fn range(&self, request: RangeRequest, deadline: Instant) -> Result<RangeResponse, Error> {
        self.again(wire::RANGE, request, deadline).await.map_err(|status| self.refused(&status))
    }

    async fn transact(&self, request: TxnRequest, deadline: Instant) -> Result<TxnResponse, Error> {
        self.again(wire::TXN, request, deadline).await.map_err(|status| self.refused(&status))
    }

    /// The value of a key.
    async fn value(&self, key: Vec<u8>, deadline: Instant) -> Result<Option<Vec<u8>>, Error> {
        let found = self.range(RangeRequest { key, ..RangeRequest::default() }, deadline).await?;
        Ok(found.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Writes a key if the comparisons hold; whether they did.
    async fn set_value(&self, key: Vec<u8>, compare: Vec<Compare>, wanted: Option<Vec<u8>>) -> Result<bool, Error> {
        let deadline = Instant::now() + PATIENCE;
        let op = match &wanted {
            Some(value) => {
                let counted = RangeRequest { count_only: true, ..RangeRequest::prefix(&self.layout.meta("")) };
                if self.value(key.clone(), deadline).await?.is_none() {
                    let count = self.range(counted, deadline).await?.count;
                    meta_room(usize::try_from(count).unwrap_or(usize::MAX))?;
                }
                Op::put(key.clone(), value.clone())
            }
            None => Op::delete(key.clone()),
        };
        let conditional = !compare.is_empty();
        let request = TxnRequest { compare, success: vec![op], failure: vec![Op::get(key)] };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.client.call::<_, TxnResponse>(wire::TXN, request.clone()).await {
                Ok(answer) if answer.succeeded || !conditional => return Ok(true),
                Ok(answer) => {
                    let found = answer.responses.into_iter().next().and_then(|r| r.range);
                    let found = found.and_then(|r| r.kvs.into_iter().next()).map(|kv| kv.value);
                    // A try whose answer was lost may have been the one that wrote it.
                    return Ok(tries > 1 && found == wanted);
                }
                Err(status) if passes(&status) && Instant::now() < deadline => {
                    self.metrics.store_failures.inc();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) => return Err(self.refused(&status)),
            }
        }
    }
}
