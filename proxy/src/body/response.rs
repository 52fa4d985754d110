//! A response's body, back to the caller: it counts, watches its deadline and its silence, and lets go of everything the
//! request held (connection, permits, record) at the moment the last byte has gone, not when somebody drops it.

use super::{BoxError, Incoming};
use crate::{
    alarm::Alarm,
    error::{Error, Kind},
    http1::Spelling,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    any::Any,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// How a response ended.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// To its last byte.
    Complete,
    /// Broken off by the destination or by one of our limits.
    Failed(Kind),
    /// The caller went away.
    Abandoned,
}

/// Told once how a response ended.
pub trait Finish: Send + Sync {
    /// `bytes` of body were passed on; `trailers` if there were any.
    fn finish(&self, end: End, bytes: u64, trailers: Option<&HeaderMap>);
}

/// What a response holds until its end.
#[derive(Default)]
pub struct Held {
    /// Let go in this order: the connection, then permits.
    pub things: smallvec::SmallVec<[Box<dyn Any + Send + Sync>; 2]>,
    /// Told how it ended; the last added is told first.
    pub finish: smallvec::SmallVec<[Arc<dyn Finish>; 2]>,
    /// The whole response must have gone by then.
    pub deadline: Option<Alarm>,
    idle: Option<Idle>,
    bytes: u64,
}

struct Idle {
    timeout: Duration,
    moved: bool,
    /// Set when the first wait begins.
    alarm: Option<Alarm>,
}

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
}

impl Inner {
    fn is_at_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(b) => b.is_empty(),
            Self::Incoming(b) => b.is_end_stream(),
        }
    }
}

/// A response's body. A response goes by value from stage to stage: all that is in its body stands elsewhere, so that what
/// is moved is short enough to be moved in place, without a call.
pub struct ResponseBody {
    /// `None`: no body, and nothing that is held.
    whole: Option<Box<Whole>>,
}

#[derive(Default)]
struct Whole {
    inner: Inner,
    held: Held,
    spelling: Option<Spelling>,
}

impl ResponseBody {
    fn of(inner: Inner) -> Self {
        Self { whole: Some(Box::new(Whole { inner, held: Held::default(), spelling: None })) }
    }

    /// No body.
    pub fn empty() -> Self {
        Self { whole: None }
    }

    /// A body made here.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self::of(Inner::Full(bytes)) }
    }

    /// A body that comes from a destination.
    pub fn incoming(body: impl Into<Incoming>) -> Self {
        Self::of(Inner::Incoming(body.into()))
    }

    /// Takes out what comes from the destination, whose connection changes its protocol.
    pub fn take_incoming(&mut self) -> Option<Incoming> {
        match std::mem::take(&mut self.whole.as_mut()?.inner) {
            Inner::Incoming(body) => Some(body),
            Inner::Empty | Inner::Full(_) => None,
        }
    }

    /// The response's head as it was written, where it came over HTTP/1.
    pub fn spelt(&mut self, spelling: Spelling) {
        self.whole().spelling = Some(spelling);
    }

    /// See [`Self::spelt`].
    pub fn take_spelling(&mut self) -> Option<Spelling> {
        self.whole.as_mut()?.spelling.take()
    }

    /// The response is one to `HEAD`, or of a status that has no content: what we would say ourselves is not said.
    pub fn leave_out(&mut self) {
        if let Some(whole) = &mut self.whole
            && let Inner::Full(_) = whole.inner
        {
            whole.inner = Inner::Empty;
        }
    }

    fn whole(&mut self) -> &mut Whole {
        self.whole.get_or_insert_default()
    }

    /// What it holds until its end.
    pub fn hold(&mut self) -> &mut Held {
        &mut self.whole().held
    }

    /// Ends the response when neither a byte came nor one could be passed on for so long.
    pub fn idle_timeout(&mut self, timeout: Duration) {
        self.hold().idle = Some(Idle { timeout, moved: false, alarm: None });
    }
}

impl Whole {
    fn end(&mut self, end: End, trailers: Option<&HeaderMap>) {
        let held = &mut self.held;
        while let Some(finish) = held.finish.pop() {
            finish.finish(end, held.bytes, trailers);
        }
        (held.deadline, held.idle) = (None, None);
        // A connection goes back to its pool only when its response was read to the end; its lease looks at that itself.
        held.things.clear();
    }

    fn fail(&mut self, kind: Kind) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.inner = Inner::Empty;
        self.end(End::Failed(kind), None);
        Poll::Ready(Some(Err(Error::new(kind).into())))
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Option<Kind> {
        let held = &mut self.held;
        if let Some(deadline) = &mut held.deadline
            && deadline.poll(cx).is_ready()
        {
            return Some(Kind::DeadlineExceeded);
        }
        let idle = held.idle.as_mut()?;
        let timeout = idle.timeout;
        let alarm = idle.alarm.get_or_insert_with(|| Alarm::new(Instant::now() + timeout));
        while alarm.poll(cx).is_ready() {
            if !std::mem::take(&mut idle.moved) {
                return Some(Kind::IdleTimeout);
            }
            alarm.reset(Instant::now() + timeout);
        }
        None
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(this) = &mut self.get_mut().whole else { return Poll::Ready(None) };
        let polled = match &mut this.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.inner = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Incoming(body) => Pin::new(body).poll_frame(cx),
        };
        match polled {
            Poll::Pending => match this.poll_limits(cx) {
                Some(kind) => this.fail(kind),
                None => Poll::Pending,
            },
            Poll::Ready(None) => {
                this.end(End::Complete, None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                let held = &mut this.held;
                held.bytes += frame.data_ref().map_or(0, |d| d.len() as u64);
                if let Some(idle) = &mut held.idle {
                    idle.moved = true;
                }
                if let Some(trailers) = frame.trailers_ref() {
                    this.end(End::Complete, Some(trailers));
                } else if this.inner.is_at_end() {
                    this.end(End::Complete, None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => this.fail(Kind::UpstreamReset),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.whole.as_ref().is_none_or(|whole| whole.inner.is_at_end())
    }

    fn size_hint(&self) -> SizeHint {
        match self.whole.as_ref().map(|whole| &whole.inner) {
            None | Some(Inner::Empty) => SizeHint::with_exact(0),
            Some(Inner::Full(b)) => SizeHint::with_exact(b.len() as u64),
            Some(Inner::Incoming(b)) => b.size_hint(),
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // A response without a body is never polled: it is complete all the same.
        let end = if self.inner.is_at_end() { End::Complete } else { End::Abandoned };
        self.end(end, None);
    }
}
