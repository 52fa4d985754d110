//! Bytes from one connection to another and back, until both directions have ended: what `CONNECT`, upgraded and
//! non-HTTP connections are carried by. Half-closes are passed on; silence in both directions ends it.

use crate::{
    drain,
    telemetry::{Carried, Direction, Metrics},
};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Silence that ends nothing.
pub const FOREVER: Duration = Duration::MAX;

/// The memory of one direction of one tunnel, in bytes.
const BUFFER: usize = 16 * 1024;

/// Owns the tunnels of a listener: they hold up its drain, and are counted.
#[derive(Clone)]
pub struct Tunnel {
    /// Held by each tunnel to its end.
    pub drain: drain::Watch,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// `outbound` or `inbound`.
    pub direction: Direction,
}

/// Counts one open tunnel, and what it carries as it goes.
pub struct Counted {
    metrics: Arc<Metrics>,
    direction: Direction,
    destination: Option<Carried>,
    _drain: drain::Watch,
}

impl Tunnel {
    /// Runs a tunnel in a task of its own.
    pub fn spawn<F>(&self, carry: impl FnOnce(Counted) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(carry(self.count()));
    }

    /// Counts one tunnel until its end.
    pub fn count(&self) -> Counted {
        self.metrics.tcp_opened(self.direction);
        let (metrics, drain) = (self.metrics.clone(), self.drain.clone());
        Counted { metrics, direction: self.direction, destination: None, _drain: drain }
    }
}

impl Counted {
    /// What it carries is counted for its destination too.
    pub fn to(mut self, destination: Carried) -> Self {
        self.destination = Some(destination);
        self
    }

    fn forth(&self, bytes: u64) {
        self.metrics.tcp_bytes(self.direction, bytes, 0);
        self.destination.iter().for_each(|destination| destination.sent.add(bytes));
    }

    fn back(&self, bytes: u64) {
        self.metrics.tcp_bytes(self.direction, 0, bytes);
        self.destination.iter().for_each(|destination| destination.received.add(bytes));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.tcp_closed(self.direction);
    }
}

/// Joins two connections until both directions have ended, one has failed, or nothing has moved for `idle`.
pub async fn join<A, B>(a: A, b: B, idle: Duration, counted: Counted)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let watch = Arc::new(Activity { moved: AtomicBool::new(false), counted });
    let mut a = Watched { io: a, read: Counted::forth, watch: watch.clone() };
    let mut b = Watched { io: b, read: Counted::back, watch: watch.clone() };
    tokio::select! {
        result = tokio::io::copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER) => {
            if let Err(error) = result {
                tracing::debug!(%error, "a tunnel broke");
            }
        }
        () = watch.silence(idle) => tracing::debug!(?idle, "a tunnel was silent for too long"),
    }
}

struct Activity {
    moved: AtomicBool,
    counted: Counted,
}

impl Activity {
    /// Returns after at least `idle`, and less than twice that, without a byte.
    async fn silence(&self, idle: Duration) {
        loop {
            tokio::time::sleep(idle).await;
            if !self.moved.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Notes what is read.
struct Watched<T> {
    io: T,
    read: fn(&Counted, u64),
    watch: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        if read > 0 {
            self.watch.moved.store(true, Ordering::Relaxed);
            (self.read)(&self.watch.counted, read);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
