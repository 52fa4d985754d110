//! The store on the Kubernetes API: the cluster's objects are the documents, and several control planes share them as they
//! share the cluster.
//!
//! What is read is followed ([`follow`]): every replica sees the same objects and makes the same documents of them
//! ([`state`]). A document's version is its object's `resourceVersion`; a snapshot's is the highest that it has in it, or one
//! more than that of the snapshot before, so that it always rises. A document that is written goes to the API server with
//! the version that it is based on ([`write`]); several at once go by a journal ([`journal`]), so that all of them come to
//! be, or none, whoever dies. Keys and tokens are Secrets ([`entries`]); who leads is a `Lease` ([`lease`]).
//!
//! An object that is no valid document keeps nobody else from being one: it is reported ([`Kubernetes::refused`]), and its
//! last good version stays.
//!
//! The port is synchronous and the API is not: calls run on threads of their own, and who calls waits for them.

mod entries;
mod follow;
mod journal;
mod lease;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub use crate::kubernetes::client::Options as KubernetesOptions;
pub use lease::KubernetesLease;
pub use state::Refused;

use super::{Applied, Batch, Error, MetaExpect, Snapshot, Store, meta_fits};
use crate::{kubernetes, metrics::Metrics};
use follow::Followed;
use kube::Client;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, sync::watch};
use weir_config::resources::Key;

/// The longest that one call of the store takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server that is away when we start is waited for so long: a cluster's own may be away, too, and comes back.
const AWAY: Duration = Duration::from_secs(600);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_secs(1);

/// Documents in a cluster.
pub struct Kubernetes {
    shared: Arc<Shared>,
    /// Transactions of this process take turns.
    writing: Mutex<()>,
    runtime: Option<Runtime>,
}

/// What the calls and the follower share.
struct Shared {
    client: Client,
    /// Where Secrets and Leases are.
    namespace: String,
    followed: Followed,
    metrics: Metrics,
}

impl Kubernetes {
    /// Reads everything, and follows it from then on. Waits until everything has been read.
    ///
    /// # Errors
    /// There is no way to the API server for ten minutes, or it does not let us read.
    pub fn open(options: &KubernetesOptions, metrics: Metrics) -> Result<Self, Error> {
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(2)
            .thread_name("weir-kubernetes")
            .enable_all()
            .build();
        let runtime = started.map_err(|source| Error::Io {
            what: "starting threads for Kubernetes".into(),
            source,
            remedy: "give this process more threads",
        })?;
        let (options, handle) = (options.clone(), runtime.handle().clone());
        let shared = run(Some(&handle), async move {
            let client = kubernetes::client::connect(&options).await.map_err(|why| server::error(&why, ""))?;
            reached(&client, Instant::now() + AWAY).await?;
            let shared = Shared {
                client,
                namespace: options.namespace.clone(),
                followed: Followed::default(),
                metrics: metrics.clone(),
            };
            let shared = Arc::new(shared);
            let told = kubernetes::watch::everything(&shared.client, &metrics);
            let follower = shared.clone();
            tokio::spawn(async move { follower.followed.follow(told, &follower.metrics).await });
            shared.followed.whole(PATIENCE * 4).await?;
            Ok(shared)
        })?;
        let store = Self { shared, writing: Mutex::new(()), runtime: Some(runtime) };
        let shared = store.shared.clone();
        store.run(async move {
            journal::finish(&shared, Instant::now() + PATIENCE).await?;
            tokio::spawn(journal::guard(shared));
            Ok(())
        })?;
        Ok(store)
    }

    /// A leadership in the same cluster.
    pub fn lease(&self, name: &str) -> KubernetesLease {
        KubernetesLease::new(self.shared.clone(), self.handle(), name)
    }

    /// The API server, for what else is asked of it; to be used on [`Kubernetes::handle`].
    pub fn client(&self) -> Client {
        self.shared.client.clone()
    }

    /// The threads that the client is for.
    pub fn handle(&self) -> Option<tokio::runtime::Handle> {
        self.runtime.as_ref().map(|r| r.handle().clone())
    }

    /// The objects that are no valid documents, and their changes.
    pub fn refused(&self) -> watch::Receiver<Arc<BTreeMap<Key, Refused>>> {
        self.shared.followed.refused()
    }

    fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        run(self.handle().as_ref(), task)
    }
}

/// Waits until the server answers. One that does not know us says so, and time does not mend that.
async fn reached(client: &Client, deadline: Instant) -> Result<(), Error> {
    let mut told = false;
    loop {
        let error = match client.apiserver_version().await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code < 500 && status.code != 429 => {
                return Err(server::failed(&kube::Error::Api(status)));
            }
            Err(error) => server::failed(&error),
        };
        if Instant::now() > deadline {
            return Err(error);
        }
        if !told {
            tracing::warn!(%error, limit = ?AWAY, "the control plane starts when the API server answers");
            told = true;
        }
        tokio::time::sleep(PAUSE.mul_f64(0.5 + rand::random::<f64>())).await;
    }
}

/// Waits for something that is done on the store's threads.
fn run<T: Send + 'static>(
    handle: Option<&tokio::runtime::Handle>,
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let gone = || server::error("this store has been closed", "");
    let (sender, receiver) = mpsc::sync_channel(1);
    handle.ok_or_else(gone)?.spawn(async move {
        // Nobody waits any more: it is done all the same.
        let _ = sender.send(task.await);
    });
    receiver.recv().map_err(|_| gone())?
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // An asynchronous caller must not wait for threads here.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store for Kubernetes {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.followed.snapshot()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.followed.watch()
    }

    fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let _turn = self.writing.lock();
        let (shared, batch) = (self.shared.clone(), batch.clone());
        self.run(async move { write::apply(&shared, &batch, Instant::now() + PATIENCE).await })
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        self.run(async move { entries::read(&shared, &name).await })
    }

    fn set_meta(&self, name: &str, expect: MetaExpect<'_>, value: Option<&[u8]>) -> Result<(), Error> {
        meta_fits(name, value)?;
        let (shared, name) = (self.shared.clone(), name.to_owned());
        let (expect, value) = (entries::Expected::from(expect), value.map(<[u8]>::to_vec));
        self.run(async move { entries::write(&shared, &name, &expect, value.as_deref()).await })
    }

    fn meta_names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let (shared, prefix) = (self.shared.clone(), prefix.to_owned());
        self.run(async move { entries::names(&shared, &prefix).await })
    }

    fn watch_meta(&self, name: &str) -> Option<watch::Receiver<u64>> {
        let (told, receiver) = watch::channel(0);
        self.handle()?.spawn(entries::follow(self.shared.clone(), name.to_owned(), told));
        Some(receiver)
    }
}
