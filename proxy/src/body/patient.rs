//! How long a request's body may stand still: while its destination waits for it, and nothing has been answered yet. (Once
//! something has, the other direction tells whether the stream is alive: a call of gRPC may be silent on one side.)

use super::{BoxError, Incoming};
use crate::{
    alarm::Alarm,
    error::{Kind, RetrySafety},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// A body that is not waited for for ever.
pub struct Patient {
    body: Incoming,
    patience: Duration,
    /// The end of its patience, while it waits.
    alarm: Option<Alarm>,
    waits: bool,
    answered: Arc<AtomicBool>,
}

/// Says that the request has been answered.
pub struct Answered(Arc<AtomicBool>);

impl Answered {
    /// From now on its body may take its time.
    pub fn now(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Patient {
    pub(super) fn new(body: Incoming, patience: Duration) -> (Self, Answered) {
        let answered = Arc::new(AtomicBool::new(false));
        (Self { body, patience, alarm: None, waits: false, answered: answered.clone() }, Answered(answered))
    }

    pub(super) fn body(&self) -> &Incoming {
        &self.body
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waits = false;
            return Poll::Ready(frame);
        }
        if self.answered.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let end = Instant::now() + self.patience;
        // Its time begins when it is waited for, not when somebody was last able to take some of it.
        match &mut self.alarm {
            None => self.alarm = Some(Alarm::new(end)),
            Some(alarm) if !self.waits => alarm.reset(end),
            Some(_) => {}
        }
        self.waits = true;
        let over = self.alarm.as_mut().is_some_and(|alarm| alarm.poll(cx).is_ready());
        if !over || self.answered.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let stalled = Kind::ClientTimeout.detail("the request's body did not go on in time");
        Poll::Ready(Some(Err(stalled.retry_is(RetrySafety::MayHaveBeenProcessed).into())))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
