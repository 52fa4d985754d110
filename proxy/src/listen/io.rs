//! A connection that is served: what was read to tell the protocol comes first, and a request whose headers trickle in
//! ends it.

use crate::{
    body::{End, Finish},
    stage::Response,
    upstream::Io,
};
use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// From a request's first byte to the end of its headers.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests under way on one connection, and what it waits for.
#[derive(Debug, Default)]
pub struct Busy {
    now: AtomicUsize,
    begun: AtomicUsize,
    /// Its last read found nothing, not even a part of a request, and its last write is done.
    silent: AtomicBool,
    /// It ends without being closed.
    rests: AtomicBool,
    upgrade: AtomicBool,
}

/// One request under way.
#[derive(Debug)]
pub struct Under(Option<Arc<Busy>>);

impl Busy {
    /// A request begins: its headers have come.
    pub fn begin(self: &Arc<Self>) -> Under {
        self.now.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Under(Some(self.clone()))
    }

    fn ended(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether none is under way.
    pub fn is_idle(&self) -> bool {
        self.now.load(Ordering::Relaxed) == 0
    }

    /// How many have begun so far.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether it waits for the next request, and nothing else.
    pub fn may_rest(&self) -> bool {
        self.is_idle() && self.begun() > 0 && self.silent.load(Ordering::Relaxed)
    }

    /// From now on (or no more), to end this connection is not to close it.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// A request asks for another protocol on this connection.
    pub fn ask_upgrade(&self) {
        self.upgrade.store(true, Ordering::Relaxed);
    }

    /// Whether one has asked since this was last looked at.
    pub fn take_upgrade(&self) -> bool {
        self.upgrade.load(Ordering::Relaxed) && self.upgrade.swap(false, Ordering::Relaxed)
    }
}

impl Under {
    /// Under way until `response` has ended.
    pub fn until_end_of(mut self, response: &mut Response) {
        if let Some(busy) = self.0.take() {
            response.body_mut().hold().finish.push(busy);
        }
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if let Some(busy) = self.0.take() {
            busy.ended();
        }
    }
}

impl Finish for Busy {
    fn finish(&self, _: End, _: u64, _: Option<&http::HeaderMap>) {
        self.ended();
    }
}

/// A connection that is served.
pub struct Served {
    io: Io,
    first: Vec<u8>,
    taken: usize,
    busy: Arc<Busy>,
    // Requests that had begun when the last byte of no request yet came in.
    partial: Option<usize>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Served {
    /// `first`: bytes that have been read already.
    pub fn new(io: Io, first: Vec<u8>, busy: Arc<Busy>) -> Self {
        let partial = (!first.is_empty()).then_some(0);
        Self { io, first, taken: 0, busy, partial, timer: None }
    }

    /// The connection, and what has been read of it and not been taken.
    pub fn into_parts(mut self) -> (Io, Vec<u8>) {
        self.first.drain(..self.taken);
        (self.io, self.first)
    }

    fn silent(&self, silent: bool) {
        self.busy.silent.store(silent, Ordering::Relaxed);
    }

    /// Some of a request's headers have come and no more are there: the clock runs, and stops when the request begins.
    fn waits_for_headers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begun = self.busy.begun.load(Ordering::Relaxed);
        if self.partial != Some(begun) || !self.busy.is_idle() {
            self.partial = None;
            self.timer = None;
            self.silent(true);
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEADERS_TIMEOUT)));
        std::task::ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request's headers did not come in time")))
    }
}

impl AsyncRead for Served {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.taken < this.first.len() {
            let rest = &this.first[this.taken..];
            let n = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..n]);
            this.taken += n;
            if this.taken == this.first.len() {
                this.first = Vec::new();
                this.taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Pending => this.waits_for_headers(cx),
            ready => {
                if buf.filled().len() > before && this.partial.is_none() && this.busy.is_idle() {
                    this.partial = Some(this.busy.begun.load(Ordering::Relaxed));
                }
                this.silent(false);
                ready
            }
        }
    }
}

impl Served {
    /// A write that waits is no silence.
    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_pending() {
            self.silent(false);
        }
        polled
    }
}

impl AsyncWrite for Served {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.busy.rests.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
