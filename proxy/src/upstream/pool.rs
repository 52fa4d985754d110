//! The connections to one endpoint, kept for reuse: HTTP/1.1 ones lent to one request at a time, the last used first;
//! HTTP/2 ones shared by many.
//!
//! Each data thread keeps its own, so that a connection's task, its requests and their callers run on one thread and
//! wake nobody else's. Limits are the cluster's, over all threads.

use super::{
    connect::{ConnectionCount, Dialer, Place},
    exchange::{Exchange, Unsent, failed},
    http2::{self, at_limit},
};
use crate::{body::Body, error::Kind};
use http::{Request, Version};
use hyper::client::conn::http1;
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Header fields that a response may have.
pub const MAX_HEADERS: usize = 128;
/// Idle HTTP/1.1 connections that a thread keeps to one endpoint; more are closed when they come back.
const MAX_IDLE: usize = 1024;

/// The connections to one endpoint.
pub struct Pool {
    address: SocketAddr,
    mesh: bool,
    workers: Box<[Arc<Worker>]>,
    count: Arc<ConnectionCount>,
}

#[derive(Default)]
struct Worker {
    idle: Mutex<Vec<Idle>>,
    reaping: std::sync::atomic::AtomicBool,
    http2: http2::Shared,
}

struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
    retire_at: Option<Instant>,
}

impl Pool {
    /// An empty pool for one endpoint, with a part for each of `workers` data threads.
    pub fn new(address: SocketAddr, mesh: bool, workers: usize) -> Self {
        Self { address, mesh, workers: (0..workers.max(1)).map(|_| Arc::default()).collect(), count: Arc::default() }
    }

    /// Open connections, of all threads.
    pub fn open(&self) -> usize {
        self.count.open()
    }

    /// Idle HTTP/1.1 connections, of all threads.
    pub fn idle(&self) -> usize {
        self.workers.iter().map(|w| w.idle.lock().len()).sum()
    }

    /// Closes what is idle, and lets nothing new onto what is busy: the endpoint is gone.
    pub fn close(&self) {
        for worker in &self.workers {
            worker.idle.lock().clear();
            worker.http2.close();
        }
    }

    /// Sends one request, at `now`, and waits for its response's headers. `request.version()` chooses the protocol.
    pub async fn send(
        &self,
        worker: usize,
        dialer: &Dialer,
        request: Request<Body>,
        now: Instant,
    ) -> Result<Exchange, Unsent> {
        let Some(worker) = self.workers.get(worker).or_else(|| self.workers.first()) else {
            return Err(Unsent::never_sent(Kind::Internal.detail("a pool without threads"), request));
        };
        if request.version() == Version::HTTP_2 {
            let place = Place { address: self.address, mesh: self.mesh, count: &self.count };
            worker.http2.send(dialer, place, request).await
        } else {
            self.send_http1(worker, dialer, request, now).await
        }
    }

    async fn send_http1(
        &self,
        worker: &Arc<Worker>,
        dialer: &Dialer,
        mut request: Request<Body>,
        mut now: Instant,
    ) -> Result<Exchange, Unsent> {
        loop {
            let idle = worker.take_idle(dialer.idle_timeout, now);
            let reused = idle.is_some();
            let (mut sender, retire_at) = match idle {
                Some(idle) => (idle.sender, idle.retire_at),
                // Boxed: it is large, and rare.
                None => match Box::pin(self.dial_http1(dialer)).await {
                    Ok(dialed) => dialed,
                    Err(error) => return Err(Unsent::never_sent(error, request)),
                },
            };
            let error = match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.lend(worker, dialer, response, sender, retire_at, reused)),
                Err(error) => error,
            };
            let unsent = failed(error, reused);
            match unsent.request {
                // Closed before a byte had left: the next one, or a new one.
                Some(same) if reused => request = *same,
                request => return Err(Unsent { error: unsent.error, request }),
            }
            now = Instant::now();
        }
    }

    async fn dial_http1(&self, dialer: &Dialer) -> crate::error::Result<(http1::SendRequest<Body>, Option<Instant>)> {
        let permit = dialer.limits.connections.try_acquire().ok_or_else(at_limit)?;
        let sender = dialer.http1(self.address, self.mesh, &self.count, Some(permit)).await?;
        Ok((sender, dialer.retire_at(Instant::now())))
    }

    fn lend(
        &self,
        worker: &Arc<Worker>,
        dialer: &Dialer,
        response: http::Response<hyper::body::Incoming>,
        sender: http1::SendRequest<Body>,
        retire_at: Option<Instant>,
        reused: bool,
    ) -> Exchange {
        let lease = Lease {
            sender: Some(sender),
            retire_at,
            worker: Arc::downgrade(worker),
            idle_timeout: dialer.idle_timeout,
        };
        Exchange { response: response.map(Into::into), lease: Box::new(lease), reused }
    }
}

impl Worker {
    fn take_idle(&self, idle_timeout: Duration, now: Instant) -> Option<Idle> {
        let mut idle = self.idle.lock();
        while let Some(one) = idle.pop() {
            let fresh =
                now.saturating_duration_since(one.since) < idle_timeout && one.retire_at.is_none_or(|at| now < at);
            if fresh && one.sender.is_ready() {
                return Some(one);
            }
        }
        None
    }

    fn give_back(self: &Arc<Self>, sender: http1::SendRequest<Body>, retire_at: Option<Instant>, timeout: Duration) {
        let now = Instant::now();
        if sender.is_closed() || retire_at.is_some_and(|at| now >= at) {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() >= MAX_IDLE {
            return;
        }
        idle.push(Idle { sender, since: now, retire_at });
        drop(idle);
        if !self.reaping.swap(true, Ordering::AcqRel) {
            tokio::spawn(reap(Arc::downgrade(self), timeout));
        }
    }
}

/// Closes connections that have been idle for too long; ends when there are none left.
async fn reap(worker: Weak<Worker>, timeout: Duration) {
    loop {
        tokio::time::sleep(timeout).await;
        let Some(worker) = worker.upgrade() else { return };
        let now = Instant::now();
        let mut idle = worker.idle.lock();
        // The stack's bottom is what was used longest ago.
        idle.retain(|one| now.duration_since(one.since) < timeout && !one.sender.is_closed());
        if idle.is_empty() {
            worker.reaping.store(false, Ordering::Release);
            return;
        }
    }
}

/// An HTTP/1.1 connection on loan.
struct Lease {
    sender: Option<http1::SendRequest<Body>>,
    retire_at: Option<Instant>,
    worker: Weak<Worker>,
    idle_timeout: Duration,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut sender), Some(worker)) = (self.sender.take(), self.worker.upgrade()) else { return };
        let (retire_at, timeout) = (self.retire_at, self.idle_timeout);
        if sender.is_ready() {
            worker.give_back(sender, retire_at, timeout);
        } else if !sender.is_closed() && tokio::runtime::Handle::try_current().is_ok() {
            // The response ended before the connection's task was ready for the next: a moment, usually.
            tokio::spawn(async move {
                let ready = tokio::time::timeout(Duration::from_millis(250), sender.ready()).await;
                if matches!(ready, Ok(Ok(()))) {
                    worker.give_back(sender, retire_at, timeout);
                }
            });
        }
    }
}
