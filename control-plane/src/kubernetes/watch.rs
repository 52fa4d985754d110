//! Lists and watches each kind that matters, and tells what it sees through one channel, in the order of each kind.
//!
//! `kube::runtime` does what is hard: it lists, watches from there, follows bookmarks, resumes where a connection broke, and
//! lists again when the server has forgotten the place. What is told here is idempotent: an object may come twice, and
//! after each list everything that was not in it is gone.

use super::{
    Name, object,
    objects::{EndpointSlice, Pod},
};
use crate::metrics::Metrics;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client, Resource,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Error, Event},
    },
};
use std::time::Duration;
use tokio::sync::mpsc;
use weir_config::resources::Kind;

/// Between two tries to reach a server that does not answer: short, since sidecars wait for what it knows.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(3);
/// The server ends a watch after so long, and we a little later: so long a silent connection may go unnoticed.
const WATCH: u32 = 120;
/// So many answers in a row that a kind is not known are believed: half a minute.
const GONE: u32 = 10;
/// Events that wait for the store: then the watches wait, too.
const WAITING: usize = 1024;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Services.
    Services,
    /// Pods.
    Pods,
    /// EndpointSlices.
    Slices,
    /// A kind of [`object::KINDS`].
    Objects(Kind),
}

impl Source {
    /// All.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Services, Self::Pods, Self::Slices].into_iter().chain(object::KINDS.into_iter().map(Self::Objects))
    }
}

/// An object, as its source has it.
#[derive(Debug, Clone)]
pub enum Object {
    /// Of [`Source::Services`] and [`Source::Objects`].
    Any(Box<DynamicObject>),
    /// Of [`Source::Pods`].
    Pod(Box<Pod>),
    /// Of [`Source::Slices`].
    Slice(Box<EndpointSlice>),
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Happened {
    /// A list begins: what does not come until it is [`Happened::Listed`] is gone.
    Listing,
    /// An object is there, new or changed or as it was.
    There(Object),
    /// An object is gone.
    Gone(Name),
    /// The list is whole.
    Listed,
}

/// What happened, and where.
pub type Told = (Source, Happened);

/// Watches everything until the receiver is dropped. Must be called on the runtime that the client is for.
pub fn everything(client: &Client, metrics: &Metrics) -> mpsc::Receiver<Told> {
    let (sender, receiver) = mpsc::channel(WAITING);
    for source in Source::all() {
        tokio::spawn(follow(source, client.clone(), sender.clone(), metrics.clone()));
    }
    receiver
}

async fn follow(source: Source, client: Client, sender: mpsc::Sender<Told>, metrics: Metrics) {
    let any = |object: DynamicObject| Object::Any(Box::new(object));
    match source {
        Source::Services => {
            let resource = kube::api::ApiResource::erase::<Service>(&());
            tell(source, Api::all_with(client, &resource), any, sender, metrics).await;
        }
        Source::Objects(kind) => {
            let resource = object::resource(kind);
            tell(source, Api::all_with(client, &resource), any, sender, metrics).await;
        }
        Source::Pods => {
            tell(source, Api::all(client), |pod: Pod| Object::Pod(Box::new(pod)), sender, metrics).await;
        }
        Source::Slices => {
            tell(source, Api::all(client), |s: EndpointSlice| Object::Slice(Box::new(s)), sender, metrics).await;
        }
    }
}

async fn tell<K>(source: Source, api: Api<K>, wrap: impl Fn(K) -> Object, sender: mpsc::Sender<Told>, metrics: Metrics)
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().timeout(WATCH);
    let mut events = std::pin::pin!(patient(watcher::watcher(api, config)));
    let (mut listed, mut unknown) = (false, 0);
    while let Some(event) = events.next().await {
        let happened = match event {
            Ok(Event::Init) => vec![Happened::Listing],
            Ok(Event::InitApply(object) | Event::Apply(object)) => vec![Happened::There(wrap(object))],
            Ok(Event::Delete(object)) => vec![Happened::Gone(Name::of(object.meta()))],
            Ok(Event::InitDone) => {
                (listed, unknown) = (true, 0);
                vec![Happened::Listed]
            }
            // A kind that the cluster does not know (the Gateway API's, where it is not installed) has no objects. One that it
            // knew is believed to be gone only when it has been for a while: nothing is lost by a server that starts.
            Err(error) if is_unknown(&error) && (!listed || unknown >= GONE) => {
                vec![Happened::Listing, Happened::Listed]
            }
            Err(error) if is_unknown(&error) => {
                unknown += 1;
                continue;
            }
            Err(error) => {
                metrics.store_failures.inc();
                tracing::warn!(?source, error = %crate::causes::in_words(&error), "the API server is asked again");
                continue;
            }
        };
        for happened in happened {
            if sender.send((source, happened)).await.is_err() {
                return;
            }
        }
    }
}

fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

fn patient<K>(events: impl Stream<Item = watcher::Result<Event<K>>>) -> impl Stream<Item = watcher::Result<Event<K>>> {
    events.backoff(Pauses(FIRST))
}

/// Pauses that double up to the longest.
struct Pauses(Duration);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        // Replicas do not all come back at the same moment.
        Some(pause.mul_f64(rand::random_range(0.75..1.0)))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = FIRST;
    }
}
