//! The connections to one endpoint, kept for reuse: HTTP/1.1 ones lent to one request at a time, the last used first;
//! HTTP/2 ones shared by many.
//!
//! Each data thread keeps its own, so that a connection's task, its requests and their callers run on one thread and
//! wake nobody else's. Limits are the cluster's, over all threads.

use super::{
    connect::{ConnectionCount, Dialer, MAX_STREAMS},
    exchange::{Exchange, Outgoing, Unsent, failed},
    http1,
    idle::{IdlePool, Lease},
};
use crate::{
    body::{Body, Incoming},
    error::{Error, Kind},
    http1::ResponseHead,
    logic::{KeepAlive, keepalive},
};
use http::{Request, StatusCode, Version};
use hyper::client::conn::http2;
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The connections to one endpoint.
pub struct Pool {
    address: SocketAddr,
    mesh: bool,
    workers: Box<[Arc<Worker>]>,
    count: Arc<ConnectionCount>,
}

struct Worker {
    idle: Arc<IdlePool>,
    shared: Mutex<Vec<Shared>>,
    dialing: tokio::sync::Mutex<()>,
}

struct Shared {
    sender: http2::SendRequest<Body>,
    streams: Arc<AtomicUsize>,
    retire_at: Option<Instant>,
}

impl Pool {
    /// An empty pool for one endpoint, with a part for each of `workers` data threads.
    pub fn new(address: SocketAddr, mesh: bool, workers: usize) -> Self {
        let habits = Arc::<KeepAlive>::default();
        let workers = (0..workers.max(1)).map(|_| Arc::new(Worker::new(habits.clone()))).collect();
        Self { address, mesh, workers, count: Arc::default() }
    }

    /// Open connections, of all threads.
    pub fn open(&self) -> usize {
        self.count.open()
    }

    /// Idle HTTP/1.1 connections, of all threads.
    pub fn idle(&self) -> usize {
        self.workers.iter().map(|w| w.idle.len()).sum()
    }

    /// Closes what is idle, and lets nothing new onto what is busy: the endpoint is gone.
    pub fn close(&self) {
        for worker in &self.workers {
            worker.idle.clear();
            worker.shared.lock().clear();
        }
    }

    /// Sends one request, at `now`, and waits for its response's headers. The message's version chooses the protocol.
    pub async fn send(
        &self,
        worker: usize,
        dialer: &Dialer,
        outgoing: Outgoing,
        now: Instant,
    ) -> Result<Exchange, Unsent> {
        let Some(worker) = self.workers.get(worker).or_else(|| self.workers.first()) else {
            return Err(Unsent::never_sent(Kind::Internal.detail("a pool without threads"), outgoing.message));
        };
        if outgoing.message.version() == Version::HTTP_2 {
            self.send_http2(worker, dialer, outgoing.message).await
        } else {
            self.send_http1(worker, dialer, outgoing, now).await
        }
    }

    async fn send_http1(
        &self,
        worker: &Arc<Worker>,
        dialer: &Dialer,
        mut outgoing: Outgoing,
        mut now: Instant,
    ) -> Result<Exchange, Unsent> {
        loop {
            let idle = (!outgoing.fresh).then(|| worker.idle.take(dialer.idle_timeout, now)).flatten();
            let reused = idle.is_some();
            let (connection, age) = match idle {
                Some(idle) => idle,
                // Boxed: it is large, and rare.
                None => match Box::pin(self.dial_http1(dialer)).await {
                    Ok(dialed) => (dialed, Duration::ZERO),
                    Err(error) => return Err(Unsent::never_sent(error, outgoing.message)),
                },
            };
            let (spelling, interim) = (outgoing.spelling.clone(), outgoing.interim.clone());
            let unsent = match connection.exchange(outgoing, reused).await {
                Ok(answer) => return Ok(worker.lend(dialer, connection, answer, reused)),
                Err(unsent) => unsent,
            };
            if unsent.error.kind() == Kind::StaleConnection {
                worker.idle.habits.closed_after(age);
            }
            match unsent.request {
                // Closed before a byte had left: the next one, or a new one.
                Some(same) if reused => outgoing = Outgoing { message: *same, spelling, interim, fresh: true },
                request => return Err(Unsent { error: unsent.error, request }),
            }
            now = Instant::now();
        }
    }

    async fn dial_http1(&self, dialer: &Dialer) -> crate::error::Result<http1::Connection> {
        let permit = dialer.limits.connections.try_acquire().ok_or_else(at_limit)?;
        dialer.http1(self.address, self.mesh, &self.count, Some(permit)).await
    }

    async fn send_http2(
        &self,
        worker: &Arc<Worker>,
        dialer: &Dialer,
        mut request: Request<Body>,
    ) -> Result<Exchange, Unsent> {
        let mut reused = true;
        // A connection that is going away gives the request back: at most three times, then it is the endpoint's fault.
        for _ in 0..3 {
            let (mut sender, stream) = match worker.with_room() {
                Some(found) => found,
                None => match Box::pin(self.dial_http2(worker, dialer)).await {
                    Ok((sender, stream, fresh)) => {
                        reused = !fresh;
                        (sender, stream)
                    }
                    Err(error) => return Err(Unsent::never_sent(error, request)),
                },
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok(Exchange {
                        response: response.map(Into::into),
                        lease: Box::new(stream),
                        reused,
                        spelling: None,
                    });
                }
                Err(error) => {
                    let unsent = failed(error, reused);
                    match unsent.request {
                        Some(same) => {
                            worker.forget_closed();
                            request = *same;
                        }
                        None => return Err(unsent),
                    }
                }
            }
        }
        Err(Unsent::never_sent(Kind::UpstreamClosed.detail("its connections close at once"), request))
    }

    async fn dial_http2(
        &self,
        worker: &Arc<Worker>,
        dialer: &Dialer,
    ) -> crate::error::Result<(http2::SendRequest<Body>, Stream, bool)> {
        // One at a time: those who wait here usually find room on the connection that the first one made.
        let _one = worker.dialing.lock().await;
        if let Some((sender, stream)) = worker.with_room() {
            return Ok((sender, stream, false));
        }
        let Some(permit) = dialer.limits.connections.try_acquire() else {
            // At the limit of connections, the least used one takes more streams than it would.
            return worker.least_used().map(|(s, t)| (s, t, false)).ok_or_else(at_limit);
        };
        let sender = dialer.http2(self.address, self.mesh, &self.count, Some(permit)).await?;
        let streams = Arc::new(AtomicUsize::new(0));
        let stream = Stream::start(&streams);
        let retire_at = dialer.retire_at(Instant::now());
        worker.shared.lock().push(Shared { sender: sender.clone(), streams, retire_at });
        Ok((sender, stream, true))
    }
}

fn at_limit() -> Error {
    Kind::Overflow.detail("the cluster's limit of connections is reached")
}

impl Worker {
    fn new(habits: Arc<KeepAlive>) -> Self {
        Self { idle: Arc::new(IdlePool::new(habits)), shared: Mutex::default(), dialing: tokio::sync::Mutex::default() }
    }

    fn lend(&self, dialer: &Dialer, connection: http1::Connection, answer: http1::Answer, reused: bool) -> Exchange {
        let body = answer.body(&connection.conn);
        let ResponseHead { parts, persists, spelling, .. } = answer.head;
        if let Some(timeout) = parts.headers.get("keep-alive").and_then(|v| keepalive::parse(v.as_bytes())) {
            self.idle.habits.announced(timeout);
        }
        let lease = Lease {
            connection: Some(connection),
            pool: Arc::downgrade(&self.idle),
            timeout: dialer.idle_timeout,
            // One that changes its protocol is no longer ours.
            persists: persists && parts.status != StatusCode::SWITCHING_PROTOCOLS,
            sending: answer.sending,
        };
        let response = http::Response::from_parts(parts, Incoming::Http1(body));
        Exchange { response, lease: Box::new(lease), reused, spelling: Some(spelling) }
    }

    fn with_room(&self) -> Option<(http2::SendRequest<Body>, Stream)> {
        let mut shared = self.shared.lock();
        if shared.is_empty() {
            return None;
        }
        let now = shared.iter().any(|s| s.retire_at.is_some()).then(Instant::now);
        shared.retain(|s| !s.sender.is_closed() && s.retire_at.is_none_or(|at| now.is_none_or(|now| now < at)));
        shared.iter().find_map(|s| {
            (s.streams.load(Ordering::Relaxed) < MAX_STREAMS).then(|| (s.sender.clone(), Stream::start(&s.streams)))
        })
    }

    fn least_used(&self) -> Option<(http2::SendRequest<Body>, Stream)> {
        let shared = self.shared.lock();
        let least = shared.iter().min_by_key(|s| s.streams.load(Ordering::Relaxed))?;
        Some((least.sender.clone(), Stream::start(&least.streams)))
    }

    fn forget_closed(&self) {
        self.shared.lock().retain(|s| !s.sender.is_closed() && s.sender.is_ready());
    }
}

/// One stream on a shared HTTP/2 connection, counted until its response has ended.
struct Stream(Arc<AtomicUsize>);

impl Stream {
    fn start(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(streams.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
