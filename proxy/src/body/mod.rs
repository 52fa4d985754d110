//! Message bodies on their way through: towards the destination (`Body`, which can be replayed for a further try) and
//! back to the caller (`ResponseBody`, which holds what must be released when the last byte has gone).

mod again;
mod incoming;
mod patient;
mod replay;
mod response;

pub use incoming::{Incoming, Interim};
pub use patient::Answered;
pub use replay::{Replay, ReplayMemory};
pub use response::{End, Finish, Held, ResponseBody};

use again::Again;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use patient::Patient;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// Any failure while a body is read.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, towards the destination.
pub enum Body {
    /// Nothing.
    Empty,
    /// As it comes in; can be sent once.
    Incoming(Incoming),
    /// Remembered up to a limit, so that another try can send it again.
    Replay(Replay),
    /// Some of it has been read, and none of that has left.
    Again(Box<Again>),
}

impl Body {
    /// The body of a request that came in.
    pub fn incoming(body: impl Into<Incoming>) -> Self {
        let body = body.into();
        if body.is_end_stream() { Self::Empty } else { Self::Incoming(body) }
    }

    /// With `read`, which was read of it, before what is left.
    #[must_use]
    pub fn again(self, read: impl IntoIterator<Item = Frame<Bytes>>) -> Self {
        let mut read = read.into_iter().peekable();
        if read.peek().is_none() { self } else { Self::Again(Box::new(Again::new(read, self))) }
    }

    /// Gives it up when it stands still for so long, until it is said that the request has been answered. `None`: there is
    /// nothing to wait for.
    pub fn idle_timeout(&mut self, timeout: Duration) -> Option<Answered> {
        match std::mem::replace(self, Self::Empty) {
            Self::Incoming(body) => {
                let (patient, answered) = Patient::new(body, timeout);
                *self = Self::Incoming(Incoming::Patient(Box::new(patient)));
                Some(answered)
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Incoming(b) => Pin::new(b).poll_frame(cx),
            Self::Replay(b) => b.poll_frame(cx),
            Self::Again(b) => b.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Incoming(b) => b.is_end_stream(),
            Self::Replay(b) => b.is_end_stream(),
            Self::Again(b) => b.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Incoming(b) => b.size_hint(),
            Self::Replay(b) => b.size_hint(),
            Self::Again(b) => b.size_hint(),
        }
    }
}
