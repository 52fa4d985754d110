//! Idle HTTP/1.1 connections of one data thread to one endpoint: lent to one request at a time, the last used first.
//!
//! Each is watched while it is idle. One that the peer closes leaves at once, and teaches how long the peer keeps them
//! ([`KeepAlive`]); one that was silent for a while is looked at once more in the kernel before it is used.

use super::{
    http1::Connection,
    waiting::{Client, Waiting},
};
use crate::logic::KeepAlive;
use parking_lot::Mutex;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{task::AbortHandle, time::Instant};

/// More are closed when they come back.
const MAX_IDLE: usize = 1024;
/// For so long a connection stays for a client in the middle of a conversation, while others can be made for newcomers.
pub(super) const KEPT: Duration = Duration::from_millis(50);
/// After so much silence the kernel is asked, which costs a system call.
const SILENCE: Duration = Duration::from_millis(20);

/// The idle connections.
#[derive(Default)]
pub(super) struct IdlePool {
    idle: Mutex<Vec<Idle>>,
    watched: AtomicBool,
    /// Wakes whoever watches them.
    watcher: Mutex<Option<Waker>>,
    pub(super) habits: Arc<KeepAlive>,
    /// Who waits for one.
    pub(super) waiting: Waiting,
}

struct Idle {
    connection: Connection,
    since: Instant,
    /// Given back by a client in the middle of a conversation.
    kept: bool,
}

impl IdlePool {
    /// With what is known of the endpoint.
    pub(super) fn new(habits: Arc<KeepAlive>) -> Self {
        Self { habits, ..Self::default() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.idle.lock().len()
    }

    /// Closes them.
    pub(super) fn clear(&self) {
        self.idle.lock().clear();
    }

    /// One that `client` may use at `now`, and for how long it has been idle; `once`: by what may not be sent twice.
    pub(super) fn take(
        &self,
        client: Client,
        timeout: Duration,
        once: bool,
        now: Instant,
    ) -> Option<(Connection, Duration)> {
        let mut idle = self.idle.lock();
        loop {
            let place = self.choose(&idle, client.known, now)?;
            let age = now.saturating_duration_since(idle.get(place)?.since);
            if !self.habits.allows(age) || once && !self.habits.is_safe_after(age) {
                // Those below it have been idle for longer. They stay: one that outlives what is known shows it wrong.
                return None;
            }
            let Idle { connection, .. } = idle.remove(place);
            let in_time = age < timeout && connection.retire_at.is_none_or(|at| now < at);
            if in_time && connection.is_open(Waker::noop()) && (age < SILENCE || connection.is_quiet()) {
                return Some((connection, age));
            }
        }
    }

    /// The last used: of those that stay for clients in the middle of a conversation, for one of these, which so leaves the
    /// others to newcomers; of the others, for a newcomer, where a connection can be made if there is none.
    fn choose(&self, idle: &[Idle], known: bool, now: Instant) -> Option<usize> {
        let last = idle.len().checked_sub(1)?;
        let is_recent = |one: &Idle| now.saturating_duration_since(one.since) < KEPT;
        let mut down = idle.iter().rev();
        let passed = if known {
            down.take_while(|one| is_recent(one)).position(|one| one.kept).unwrap_or(0)
        } else if self.waiting.can_be_served() {
            down.position(|one| !(one.kept && is_recent(one)))?
        } else {
            0
        };
        Some(last - passed)
    }

    /// Any, whoever it stays for: where no other can be had.
    pub(super) fn take_any(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        loop {
            let last = idle.pop_if(|last| self.habits.is_safe_after(now.saturating_duration_since(last.since)))?;
            let connection = last.connection;
            let in_time = connection.retire_at.is_none_or(|at| now < at);
            if in_time && connection.is_open(Waker::noop()) && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// One comes back, of a client that was `known` when it asked.
    pub(super) fn give_back(self: &Arc<Self>, connection: Connection, timeout: Duration, known: bool) {
        let now = Instant::now();
        if connection.retire_at.is_some_and(|at| now >= at) {
            return;
        }
        let watcher = self.watcher.lock();
        if !connection.is_open(watcher.as_ref().unwrap_or(Waker::noop())) {
            return;
        }
        drop(watcher);
        if let Some(connection) = self.waiting.hand(connection, true, known) {
            self.keep(connection, timeout, now, known);
        }
    }

    /// One has been made.
    pub(super) fn made(self: &Arc<Self>, connection: Connection, timeout: Duration) {
        if let Some(connection) = self.waiting.hand(connection, false, false) {
            self.keep(connection, timeout, Instant::now(), false);
        }
    }

    fn keep(self: &Arc<Self>, connection: Connection, timeout: Duration, now: Instant, kept: bool) {
        // Whoever watches is woken by what the connection does from now on.
        let mut idle = self.idle.lock();
        if idle.len() >= MAX_IDLE {
            return;
        }
        idle.push(Idle { connection, since: now, kept });
        drop(idle);
        if !self.watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(watch(Arc::downgrade(self), timeout));
        }
    }

    /// Lets go of those that have closed; whether there are others.
    fn poll_closed(&self, cx: &mut Context<'_>) -> bool {
        *self.watcher.lock() = Some(cx.waker().clone());
        let now = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|one| {
            let open = one.connection.is_open(cx.waker());
            if !open {
                self.habits.closed_after(now.saturating_duration_since(one.since));
            }
            open
        });
        !idle.is_empty()
    }

    /// Closes those that have been idle for too long; whether others are left.
    fn expire(&self, timeout: Duration) -> bool {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|one| now.saturating_duration_since(one.since) < timeout);
        if idle.is_empty() {
            self.watched.store(false, Ordering::Release);
            *self.watcher.lock() = None;
        }
        !idle.is_empty()
    }
}

/// Watches them until there are none.
async fn watch(pool: Weak<IdlePool>, timeout: Duration) {
    loop {
        let mut tick = pin!(tokio::time::sleep(timeout));
        let gone = poll_fn(|cx| {
            let Some(pool) = pool.upgrade() else { return Poll::Ready(true) };
            pool.poll_closed(cx);
            tick.as_mut().poll(cx).map(|()| !pool.expire(timeout))
        });
        if gone.await {
            return;
        }
    }
}

/// A connection on loan: dropped when the response has ended, it goes back, if it can be used again.
pub(super) struct Lease {
    pub(super) connection: Option<Connection>,
    pub(super) pool: Weak<IdlePool>,
    pub(super) timeout: Duration,
    /// The client was known when it asked.
    pub(super) known: bool,
    /// Whether the connection lives on after the response.
    pub(super) persists: bool,
    /// The request that is still being sent.
    pub(super) sending: Option<AbortHandle>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take().filter(|s| !s.is_finished()) {
            // The response is over: nobody waits for the rest of the request.
            sending.abort();
            return;
        }
        let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.upgrade()) else { return };
        let reusable = {
            let mut conn = connection.conn.lock();
            conn.rest();
            self.persists && conn.is_read() && !conn.has_more()
        };
        if reusable && tokio::runtime::Handle::try_current().is_ok() {
            pool.give_back(connection, self.timeout, self.known);
        }
    }
}
