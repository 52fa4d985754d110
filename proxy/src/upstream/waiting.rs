//! Requests that wait for a connection of HTTP/1 to one endpoint, on one data thread: whichever comes first, one that
//! another request gives back or one that is being made, goes to whoever's turn it is.
//!
//! Turns are fair among clients, not among requests: of requests that come about the same time, the first of each client
//! comes before the second of any, and those of clients that have been answered before come before newcomers'. A crowd of
//! new clients, or one with hundreds of streams, keeps those in the middle of a conversation waiting no longer than they
//! would keep each other; and no more than [`GRACE`] that came later ever come before a request for each that its client
//! had waiting already.
//!
//! Nor do newcomers take its connection away: what such a client gives back stays for its next request, for a while, as
//! long as others can be made for them.
//!
//! Few are made at a time. A crowd of requests does not become a crowd of handshakes, which would take all of the thread's
//! time, and the endpoint's, until none of them is made in time: the first connections serve many of those who wait.

use super::{
    connect::{ConnectionCount, Dialer, Place},
    http1::Connection,
    http2::at_limit,
    idle::{IdlePool, KEPT},
};
use crate::error::{Error, Kind, Result};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

/// Connections that are made at a time.
const DIALS: usize = 16;
/// Where none has come about for so long, none may be to be had.
const STUCK: Duration = Duration::from_millis(250);
/// How many requests that come later may come before one of a client that is new, or has one waiting already.
const GRACE: u64 = 256;
/// Requests that may wait, whatever the cluster's own limit says.
const MAX_WAITING: usize = 8_192;

/// Whose request it is: what it takes to be fair among clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its data thread.
    pub worker: usize,
    /// Tells its connection from others that are open.
    pub id: usize,
    /// Whether it has been answered before.
    pub known: bool,
}

/// A connection for a request, and whether another has used it before.
pub(super) type Handed = (Connection, bool);

/// Who waits.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// By their turn, then in the order of their coming.
    waiters: BTreeMap<(u64, u64), Waiter>,
    /// How many requests of each client wait.
    clients: BTreeMap<usize, u64>,
    dialing: usize,
    /// How many have waited.
    seen: u64,
    /// How many connections have been made.
    made: u64,
    /// The last one could not be.
    fails: bool,
    /// When the last one was made, or the first of those that are being made was begun.
    since: Option<Instant>,
}

struct Waiter {
    client: usize,
    known: bool,
    dialer: Dialer,
    sender: oneshot::Sender<Result<Handed>>,
}

/// Where the connections lead.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) mesh: bool,
    pub(super) count: Arc<ConnectionCount>,
}

/// Waits for a connection.
pub(super) async fn wait(
    pool: &Arc<IdlePool>,
    client: Client,
    dialer: &Dialer,
    target: impl FnOnce() -> Target,
) -> Result<Handed> {
    let Some(_pending) = dialer.limits.pending.try_acquire() else {
        return pool.take_any().map(|idle| (idle, true)).ok_or_else(|| {
            Kind::Overflow.detail("the cluster's limit of requests that wait for a connection is reached")
        });
    };
    let (mut receiver, dials) = pool.waiting.join(client, dialer)?;
    if dials {
        tokio::spawn(dial(pool.clone(), target()));
    }
    let answer = match timeout(KEPT, &mut receiver).await {
        Ok(answer) => answer,
        // What was kept for others when this one came may be free by now.
        Err(_) => match pool.take(client, dialer.idle_timeout, true, Instant::now()) {
            Some((connection, _)) => return Ok((connection, true)),
            None => receiver.await,
        },
    };
    answer.unwrap_or_else(|_| Err(Kind::Internal.detail("nobody made the connection")))
}

impl Waiting {
    /// Joins the queue; `true`: one more connection is to be made.
    fn join(&self, client: Client, dialer: &Dialer) -> Result<(oneshot::Receiver<Result<Handed>>, bool)> {
        let mut queue = self.0.lock();
        if queue.waiters.len() >= MAX_WAITING {
            queue.forget_gone();
            if queue.waiters.len() >= MAX_WAITING {
                return Err(Kind::Overflow.detail("too many requests wait for a connection to one endpoint"));
            }
        }
        let (sender, receiver) = oneshot::channel();
        let before = queue.clients.entry(client.id).or_default();
        *before += 1;
        let behind = *before - 1 + u64::from(!client.known);
        let place = (queue.seen + behind * GRACE, queue.seen);
        queue.seen += 1;
        queue.waiters.insert(place, Waiter { client: client.id, known: client.known, dialer: dialer.clone(), sender });
        let dials = queue.dialing < DIALS;
        if queue.dialing == 0 {
            queue.since = Some(Instant::now());
        }
        queue.dialing += usize::from(dials);
        Ok((receiver, dials))
    }

    /// Whether connections can be made for those who wait, as far as is known.
    pub(super) fn can_be_served(&self) -> bool {
        self.0.lock().can_be_served()
    }

    /// Hands a connection to whoever's turn it is; returns it when nobody waits, or only newcomers do, for whom others
    /// are being made, and it is of a client in the middle of a conversation (`known`).
    pub(super) fn hand(&self, connection: Connection, reused: bool, known: bool) -> Option<Connection> {
        let mut queue = self.0.lock();
        if reused {
            let newcomers = queue.waiters.first_key_value().is_none_or(|(_, first)| !first.known);
            if known && newcomers && queue.can_be_served() {
                return Some(connection);
            }
        } else {
            queue.made += 1;
            queue.fails = false;
            queue.since = Some(Instant::now());
        }
        let mut connection = connection;
        while let Some((_, waiter)) = queue.waiters.pop_first() {
            queue.one_less(waiter.client);
            match waiter.sender.send(Ok((connection, reused))) {
                Ok(()) => return None,
                Err(Ok((back, _))) => connection = back,
                Err(Err(_)) => return None,
            }
        }
        Some(connection)
    }

    /// A connection could not be made: what there is is for everybody.
    fn fails(&self) {
        self.0.lock().fails = true;
    }

    fn is_anybody(&self) -> bool {
        !self.0.lock().waiters.is_empty()
    }

    /// A connection could not be made. Whoever waited when it was begun would not have fared better, unless another has
    /// been made since then.
    fn failed(&self, error: &Error, begun: &Begun) {
        let mut queue = self.0.lock();
        let all = queue.made == begun.made;
        let waited: Vec<_> = queue.waiters.keys().filter(|place| place.1 < begun.seen).copied().collect();
        for place in waited {
            let Some(waiter) = queue.waiters.remove(&place) else { continue };
            queue.one_less(waiter.client);
            let told = waiter.sender.send(Err(Error::new(error.kind()).detail(error.story())));
            if told.is_ok() && !all {
                return;
            }
        }
    }

    /// No connection may be made: whoever would come last is refused, since what is being made is for those before.
    fn refuse(&self, error: Error) {
        let mut queue = self.0.lock();
        if let Some((_, waiter)) = queue.waiters.pop_last() {
            queue.one_less(waiter.client);
            // It may have gone away.
            let _ = waiter.sender.send(Err(error));
        }
    }

    /// How the next connection is made; `None`: enough are being made for those who wait, and this one is none any more.
    fn next(&self) -> Option<(Dialer, Begun)> {
        let mut queue = self.0.lock();
        while let Some(first) = queue.waiters.first_entry().filter(|first| first.get().sender.is_closed()) {
            let gone = first.remove();
            queue.one_less(gone.client);
        }
        match queue.waiters.first_key_value() {
            Some((_, first)) if queue.waiters.len() >= queue.dialing => {
                Some((first.dialer.clone(), Begun { seen: queue.seen, made: queue.made }))
            }
            _ => {
                queue.dialing -= 1;
                None
            }
        }
    }
}

impl Queue {
    fn can_be_served(&self) -> bool {
        !self.fails && (self.dialing == 0 || self.since.is_none_or(|since| since.elapsed() < STUCK))
    }

    /// A request of this client waits no more.
    fn one_less(&mut self, client: usize) {
        if let Entry::Occupied(mut of_client) = self.clients.entry(client) {
            *of_client.get_mut() -= 1;
            if *of_client.get() == 0 {
                of_client.remove();
            }
        }
    }

    fn forget_gone(&mut self) {
        let waiters = std::mem::take(&mut self.waiters);
        let (gone, rest): (BTreeMap<_, _>, _) = waiters.into_iter().partition(|(_, w)| w.sender.is_closed());
        self.waiters = rest;
        gone.into_values().for_each(|waiter| self.one_less(waiter.client));
    }
}

/// What there was when a connection was begun.
struct Begun {
    seen: u64,
    made: u64,
}

/// Makes connections one after the other, as long as somebody waits for whom none is being made.
async fn dial(pool: Arc<IdlePool>, target: Target) {
    while let Some((dialer, begun)) = pool.waiting.next() {
        let Some(permit) = dialer.limits.connections.try_acquire() else {
            pool.waiting.fails();
            match pool.take_any() {
                Some(idle) => pool.give_back(idle, dialer.idle_timeout, false),
                None => pool.waiting.refuse(at_limit()),
            }
            continue;
        };
        let place = Place { address: target.address, mesh: target.mesh, count: &target.count };
        match Box::pin(dialer.http1(place, permit)).await {
            Ok(connection) => pool.made(connection, dialer.idle_timeout),
            Err(error) => {
                pool.waiting.fails();
                while pool.waiting.is_anybody()
                    && let Some(idle) = pool.take_any()
                {
                    pool.give_back(idle, dialer.idle_timeout, false);
                }
                pool.waiting.failed(&error, &begun);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
