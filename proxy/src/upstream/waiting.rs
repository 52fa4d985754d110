//! Requests that wait for a connection of HTTP/1 to one endpoint, on one data thread: whichever comes first, one that
//! another request gives back or one that is being made, goes to whoever has waited longest.
//!
//! Few are made at a time. A crowd of requests does not become a crowd of handshakes, which would take all of the thread's
//! time, and the endpoint's, until none of them is made in time: the first connections serve many of those who wait.

use super::{
    connect::{ConnectionCount, Dialer, Place},
    http1::Connection,
    http2::at_limit,
    idle::IdlePool,
};
use crate::error::{Error, Kind, Result};
use parking_lot::Mutex;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc};
use tokio::sync::oneshot;

/// Connections that are made at a time.
const DIALS: usize = 16;
/// Requests that may wait, whatever the cluster's own limit says.
const MAX_WAITING: usize = 8_192;

/// A connection for a request, and whether another has used it before.
pub(super) type Handed = (Connection, bool);

/// Who waits.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    dialing: usize,
    /// How many have waited.
    seen: u64,
    /// How many connections have been made.
    made: u64,
}

struct Waiter {
    turn: u64,
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
pub(super) async fn wait(pool: &Arc<IdlePool>, dialer: &Dialer, target: impl FnOnce() -> Target) -> Result<Handed> {
    let _pending = dialer.limits.pending.try_acquire().ok_or_else(|| {
        Kind::Overflow.detail("the cluster's limit of requests that wait for a connection is reached")
    })?;
    let (receiver, dials) = pool.waiting.join(dialer)?;
    if dials {
        tokio::spawn(dial(pool.clone(), target()));
    }
    receiver.await.unwrap_or_else(|_| Err(Kind::Internal.detail("nobody made the connection")))
}

impl Waiting {
    /// Joins the queue; `true`: one more connection is to be made.
    fn join(&self, dialer: &Dialer) -> Result<(oneshot::Receiver<Result<Handed>>, bool)> {
        let mut queue = self.0.lock();
        if queue.waiters.len() >= MAX_WAITING {
            queue.waiters.retain(|w| !w.sender.is_closed());
            if queue.waiters.len() >= MAX_WAITING {
                return Err(Kind::Overflow.detail("too many requests wait for a connection to one endpoint"));
            }
        }
        let (sender, receiver) = oneshot::channel();
        let turn = queue.seen;
        queue.seen += 1;
        queue.waiters.push_back(Waiter { turn, dialer: dialer.clone(), sender });
        let dials = queue.dialing < DIALS;
        queue.dialing += usize::from(dials);
        Ok((receiver, dials))
    }

    /// Hands a connection to whoever has waited longest; returns it when nobody waits.
    pub(super) fn hand(&self, connection: Connection, reused: bool) -> Option<Connection> {
        let mut queue = self.0.lock();
        queue.made += u64::from(!reused);
        let mut connection = connection;
        while let Some(waiter) = queue.waiters.pop_front() {
            match waiter.sender.send(Ok((connection, reused))) {
                Ok(()) => return None,
                Err(Ok((back, _))) => connection = back,
                Err(Err(_)) => return None,
            }
        }
        Some(connection)
    }

    /// A connection could not be made. Whoever waited when it was begun would not have fared better, unless another has
    /// been made since then.
    fn failed(&self, error: &Error, begun: &Begun) {
        let mut queue = self.0.lock();
        let all = queue.made == begun.made;
        while queue.waiters.front().is_some_and(|w| w.turn < begun.seen || w.sender.is_closed()) {
            let Some(waiter) = queue.waiters.pop_front() else { return };
            let told = waiter.sender.send(Err(Error::new(error.kind()).detail(error.story())));
            if told.is_ok() && !all {
                return;
            }
        }
    }

    /// No connection may be made: whoever came last is refused, since what is being made is for those before.
    fn refuse(&self, error: Error) {
        if let Some(waiter) = self.0.lock().waiters.pop_back() {
            // It may have gone away.
            let _ = waiter.sender.send(Err(error));
        }
    }

    /// How the next connection is made; `None`: enough are being made for those who wait, and this one is none any more.
    fn next(&self) -> Option<(Dialer, Begun)> {
        let mut queue = self.0.lock();
        while queue.waiters.front().is_some_and(|w| w.sender.is_closed()) {
            queue.waiters.pop_front();
        }
        match queue.waiters.front() {
            Some(first) if queue.waiters.len() >= queue.dialing => {
                Some((first.dialer.clone(), Begun { seen: queue.seen, made: queue.made }))
            }
            _ => {
                queue.dialing -= 1;
                None
            }
        }
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
            pool.waiting.refuse(at_limit());
            continue;
        };
        let place = Place { address: target.address, mesh: target.mesh, count: &target.count };
        match Box::pin(dialer.http1(place, permit)).await {
            Ok(connection) => pool.made(connection, dialer.idle_timeout),
            Err(error) => pool.waiting.failed(&error, &begun),
        }
    }
}

#[cfg(test)]
mod tests;
