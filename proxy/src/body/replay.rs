//! A request body that is remembered while it is sent, so that a further try can send it again.
//!
//! The memory is bounded twice: per request, and for the whole process. A body that outgrows either is no longer
//! remembered: it goes on to its destination, and the request is not tried again.

use super::{BoxError, Incoming};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

/// The bytes that all replay buffers of the process hold together, and how many they may.
#[derive(Debug)]
pub struct ReplayMemory {
    used: AtomicUsize,
    process_cap: usize,
    request_cap: usize,
}

impl ReplayMemory {
    /// Limits in bytes: for one request, and for all together.
    pub fn new(request_cap: usize, process_cap: usize) -> Self {
        Self { used: AtomicUsize::new(0), process_cap, request_cap }
    }

    /// What one request may hold, in bytes.
    pub fn request_cap(&self) -> usize {
        self.request_cap
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, n: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(n).filter(|sum| *sum <= self.process_cap)
            })
            .is_ok()
    }

    fn give_back(&self, n: usize) {
        self.used.fetch_sub(n, Ordering::Relaxed);
    }
}

struct Shared {
    source: Incoming,
    chunks: Vec<Bytes>,
    held: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    spoilt: bool,
    memory: Arc<ReplayMemory>,
}

impl Shared {
    fn remember(&mut self, data: &Bytes) {
        if self.spoilt {
            return;
        }
        let fits = self.held + data.len() <= self.memory.request_cap && self.memory.take(data.len());
        if fits {
            self.held += data.len();
            self.chunks.push(data.clone());
        } else {
            self.spoil();
        }
    }

    fn spoil(&mut self) {
        self.spoilt = true;
        self.chunks = Vec::new();
        self.memory.give_back(std::mem::take(&mut self.held));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.memory.give_back(self.held);
    }
}

/// One reading of a remembered body, from its start.
pub struct Replay {
    shared: Arc<Mutex<Shared>>,
    next: usize,
    length: SizeHint,
}

impl Replay {
    /// Remembers `source` as it is read.
    pub fn new(source: Incoming, memory: Arc<ReplayMemory>) -> Self {
        let length = source.size_hint();
        let shared = Shared { source, chunks: vec![], held: 0, trailers: None, ended: false, spoilt: false, memory };
        Self { shared: Arc::new(Mutex::new(shared)), next: 0, length }
    }

    /// Another reading from the start; `None` when it was not all remembered.
    pub fn again(&self) -> Option<Self> {
        let spoilt = self.shared.lock().spoilt;
        (!spoilt).then(|| Self { shared: self.shared.clone(), next: 0, length: self.length })
    }

    /// Lets go of what was remembered: there will be no further try.
    pub fn forget(&self) {
        self.shared.lock().spoil();
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut shared = self.shared.lock();
        if let Some(data) = shared.chunks.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if shared.ended {
            return Poll::Ready(shared.trailers.clone().filter(|_| self.next != usize::MAX).map(|t| {
                self.next = usize::MAX;
                Ok(Frame::trailers(t))
            }));
        }
        let Some(result) = std::task::ready!(Pin::new(&mut shared.source).poll_frame(cx)) else {
            shared.ended = true;
            return Poll::Ready(None);
        };
        match result {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    let data = data.clone();
                    shared.remember(&data);
                    self.next = self.next.saturating_add(1);
                } else if let Some(trailers) = frame.trailers_ref() {
                    shared.trailers = Some(trailers.clone());
                    shared.ended = true;
                    self.next = usize::MAX;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Err(error) => {
                // What the caller did not finish cannot be sent again.
                shared.spoil();
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock();
        let read_all = self.next >= shared.chunks.len();
        read_all && (shared.source.is_end_stream() && shared.trailers.is_none() || self.next == usize::MAX)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.next == 0 { self.length } else { SizeHint::default() }
    }
}
