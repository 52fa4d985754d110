//! A request's body from its start, although some of it had been read: none of that had left.

use super::{Body, BoxError};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

/// What had been read, and what follows.
pub struct Again {
    read: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl Again {
    pub(super) fn new(read: impl IntoIterator<Item = Frame<Bytes>>, rest: Body) -> Self {
        Self { read: read.into_iter().collect(), rest }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    /// Not known: only some frames of it are.
    pub(super) fn size_hint(&self) -> SizeHint {
        if self.read.is_empty() { self.rest.size_hint() } else { SizeHint::default() }
    }
}
