//! A body that comes over a stream of an HTTP/2 connection.

use super::Interim;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Frame, SizeHint};
use std::task::{Context, Poll, ready};
use tokio::task::AbortHandle;

/// What the peer sends on one stream. Room in its windows is given back for what is handed on, no sooner: a reader that
/// stalls stalls its own stream.
pub struct Incoming {
    stream: RecvStream,
    /// What is still to come, where the message says how long it is.
    left: Option<u64>,
    data_ended: bool,
    /// What still sends the request's body.
    sending: Option<AbortHandle>,
    interim: Option<Interim>,
}

impl Incoming {
    /// The body of a message whose `Content-Length` is `length`.
    pub fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self { stream, left: length, data_ended: false, sending: None, interim: None }
    }

    /// A task that is stopped when this body is dropped before its end: nobody waits for the rest of the exchange.
    pub fn ends_with(&mut self, task: AbortHandle) {
        self.sending = Some(task);
    }

    /// Of a request: `interim` is the way back to its client.
    pub fn with_interim(mut self, interim: Interim) -> Self {
        self.interim = Some(interim);
        self
    }

    /// The way for interim responses to whoever sent this.
    pub fn interim(&self) -> Option<Interim> {
        self.interim.clone()
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only when the stream is over, which the next poll says.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(unless_over(error)),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t)))),
            Err(error) => Poll::Ready(unless_over(error)),
        }
    }

    /// Whether all of it has been read.
    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// What is left of it.
    pub fn size_hint(&self) -> SizeHint {
        if self.stream.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take()
            && !self.stream.is_end_stream()
        {
            sending.abort();
        }
    }
}

/// RFC 9113 §8.1: a complete response followed by RST_STREAM with NO_ERROR asks us to stop sending, and is no failure.
fn unless_over<T>(error: h2::Error) -> Option<Result<T, h2::Error>> {
    (error.reason() != Some(Reason::NO_ERROR)).then_some(Err(error))
}
