//! The connections to one endpoint, kept for reuse: HTTP/1.1 ones lent to one request at a time, the last used first;
//! HTTP/2 ones shared by many.
//!
//! Each data thread keeps its own, so that a connection's task, its requests and their callers run on one thread and
//! wake nobody else's. Limits are the cluster's, over all threads.

use super::{
    connect::{ConnectionCount, Dialer, Place},
    exchange::{Exchange, Message, Unsent},
    http1,
    http2::{self, at_limit},
    idle::{IdlePool, Lease},
    waiting::{self, Client, Handed, Target},
};
use crate::{
    body::{Incoming, ResponseBody},
    error::Kind,
    http1::ResponseHead,
    logic::{KeepAlive, keepalive},
};
use http::{StatusCode, Version};
use std::{net::SocketAddr, sync::Arc, time::Duration};
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
    http2: http2::Shared,
}

impl Pool {
    /// An empty pool for one endpoint, with a part for each of `workers` data threads.
    pub fn new(address: SocketAddr, mesh: bool, workers: usize) -> Self {
        let habits = Arc::<KeepAlive>::default();
        let workers = (0..workers.max(1)).map(|_| Arc::new(Worker::new(habits.clone()))).collect();
        Self { address, mesh, workers, count: Arc::default() }
    }

    fn place(&self) -> Place<'_> {
        Place { address: self.address, mesh: self.mesh, count: &self.count }
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
            worker.http2.close();
        }
    }

    /// Sends one request, at `now`, and waits for its response's headers. The message's version chooses the protocol.
    /// `fresh`: over a new connection, where one is lent to one request at a time.
    pub async fn send(
        &self,
        client: Client,
        dialer: &Dialer,
        message: Message,
        fresh: bool,
        now: Instant,
    ) -> Result<Exchange, Unsent> {
        let Some(worker) = self.workers.get(client.worker).or_else(|| self.workers.first()) else {
            return Err(Unsent::never_sent(Kind::Internal.detail("a pool without threads"), message));
        };
        if message.request.version() == Version::HTTP_2 {
            worker.http2.send(dialer, self.place(), message).await
        } else {
            self.send_http1(worker, client, dialer, message, fresh, now).await
        }
    }

    async fn send_http1(
        &self,
        worker: &Arc<Worker>,
        client: Client,
        dialer: &Dialer,
        mut message: Message,
        mut fresh: bool,
        mut now: Instant,
    ) -> Result<Exchange, Unsent> {
        let once = !message.request.method().is_idempotent();
        loop {
            let idle = (!fresh).then(|| worker.idle.take(client, dialer.idle_timeout, once, now)).flatten();
            let (connection, reused, age) = match idle {
                Some((connection, age)) => (connection, true, age),
                // Boxed: it is large, and rare.
                None => match Box::pin(self.wait_or_dial(worker, client, dialer, fresh)).await {
                    Ok((connection, reused)) => (connection, reused, Duration::ZERO),
                    Err(error) => return Err(Unsent::never_sent(error, message)),
                },
            };
            let unsent = match connection.exchange(message, reused).await {
                Ok(answer) => return Ok(worker.lend(dialer, client, connection, answer, reused)),
                Err(unsent) => unsent,
            };
            if unsent.error.kind() == Kind::StaleConnection {
                worker.idle.habits.closed_after(age);
            }
            match unsent.message {
                // Closed before a byte had left: the next one, or a new one.
                Some(same) if reused => message = same,
                message => return Err(Unsent { error: unsent.error, message }),
            }
            (fresh, now) = (true, Instant::now());
        }
    }

    /// A connection, and whether it has been used before. `fresh`: one that has been would not do.
    async fn wait_or_dial(
        &self,
        worker: &Worker,
        client: Client,
        dialer: &Dialer,
        fresh: bool,
    ) -> crate::error::Result<Handed> {
        if fresh {
            let permit = dialer.limits.connections.try_acquire().ok_or_else(at_limit)?;
            return Ok((dialer.http1(self.place(), permit).await?, false));
        }
        let target = || Target { address: self.address, mesh: self.mesh, count: self.count.clone() };
        waiting::wait(&worker.idle, client, dialer, target).await
    }
}

impl Worker {
    fn new(habits: Arc<KeepAlive>) -> Self {
        Self { idle: Arc::new(IdlePool::new(habits)), http2: http2::Shared::default() }
    }

    fn lend(
        &self,
        dialer: &Dialer,
        client: Client,
        connection: http1::Connection,
        answer: http1::Answer,
        reused: bool,
    ) -> Exchange {
        let body = answer.body(&connection.conn);
        let ResponseHead { parts, persists, spelling, .. } = answer.head;
        if let Some(timeout) = parts.headers.get("keep-alive").and_then(|v| keepalive::parse(v.as_bytes())) {
            self.idle.habits.announced(timeout);
        }
        let mut body = ResponseBody::incoming(Incoming::Http1(body));
        body.spelt(spelling);
        // One that changes its protocol belongs to that from now on: there is nothing to give back.
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let lease = Lease {
            connection: Some(connection),
            pool: Arc::downgrade(&self.idle),
            timeout: dialer.idle_timeout,
            known: client.known,
            persists: persists && !switches,
            sending: answer.sending,
        };
        if !switches {
            body.hold().things.push(Box::new(lease));
        }
        Exchange { response: http::Response::from_parts(parts, body), reused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        body::Body,
        upstream::{
            exchange::Outgoing,
            waiting::tests::{client, dialer},
        },
    };
    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Answers every request with two bytes.
    async fn endpoint() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut read = [0; 1024];
                    while tcp.read(&mut read).await.unwrap() > 0 {
                        tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_response_holds_its_connection_to_its_end_and_gives_it_back_then() {
        let (pool, dialer) = (Pool::new(endpoint().await, false, 1), dialer(Default::default()));
        let send = async || {
            let request = http::Request::get("/").header("host", "a").body(Body::Empty).unwrap();
            let message = Box::new(Outgoing { request, spelling: None, interim: None });
            pool.send(client(1), &dialer, message, false, Instant::now()).await.ok().unwrap()
        };
        let (first, beside) = (send().await, send().await);
        assert!(!first.reused && !beside.reused, "the first has not ended");
        assert_eq!(first.response.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert!(send().await.reused);
    }
}
