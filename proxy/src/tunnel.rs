//! Bytes from one connection to another and back, until both directions have ended: what `CONNECT`, upgraded and
//! non-HTTP connections are carried by. Half-closes are passed on; silence in both directions ends it.

use crate::{
    drain,
    telemetry::{Direction, Metrics},
};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

/// Bytes that went each way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// From the first to the second.
    pub forth: u64,
    /// From the second to the first.
    pub back: u64,
}

/// Counts one open tunnel.
pub struct Counted {
    metrics: Arc<Metrics>,
    direction: Direction,
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
        Counted { metrics: self.metrics.clone(), direction: self.direction, _drain: self.drain.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.tcp_closed(self.direction);
    }
}

/// Joins two connections until both directions have ended, one has failed, or nothing has moved for `idle`.
pub async fn join<A, B>(a: A, b: B, idle: Duration, counted: Counted) -> Moved
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let watch = Arc::new(Activity::default());
    let mut a = Watched { io: a, read: Way::Forth, watch: watch.clone() };
    let mut b = Watched { io: b, read: Way::Back, watch: watch.clone() };
    tokio::select! {
        result = tokio::io::copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER) => {
            if let Err(error) = result {
                tracing::debug!(%error, "a tunnel broke");
            }
        }
        () = watch.silence(idle) => tracing::debug!(?idle, "a tunnel was silent for too long"),
    }
    let moved = Moved { forth: watch.forth.load(Ordering::Relaxed), back: watch.back.load(Ordering::Relaxed) };
    counted.metrics.tcp_bytes(counted.direction, moved.forth, moved.back);
    moved
}

#[derive(Default)]
struct Activity {
    moved: AtomicBool,
    forth: AtomicU64,
    back: AtomicU64,
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

enum Way {
    Forth,
    Back,
}

/// Notes what is read.
struct Watched<T> {
    io: T,
    read: Way,
    watch: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        if read > 0 {
            self.watch.moved.store(true, Ordering::Relaxed);
            match self.read {
                Way::Forth => self.watch.forth.fetch_add(read, Ordering::Relaxed),
                Way::Back => self.watch.back.fetch_add(read, Ordering::Relaxed),
            };
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
