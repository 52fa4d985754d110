//! A request's body on its way out, as fast as the peer's windows allow.

use crate::{
    body::{Body, BoxError},
    error::{Error, Kind},
};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body and the stream it goes over.
pub(super) struct Upload {
    body: Body,
    stream: SendStream<Bytes>,
    /// A piece that waits for room in the peer's window, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

/// Why a body was not sent to its end.
pub(super) enum Broken {
    /// The peer takes no more; the response says why.
    ByPeer,
    /// The body failed where it comes from; the stream is reset.
    ByCaller(Error),
}

impl Upload {
    pub(super) fn new(body: Body, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, waiting: None }
    }

    /// Sends what can be sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if self.waiting.is_some() {
                ready!(self.poll_room(cx))?;
                if let Some((data, last)) = self.waiting.take() {
                    self.stream.send_data(data, last).map_err(by_peer)?;
                    if last {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // A reset is to be noticed while there is nothing to send.
                return self.stream.poll_reset(cx).map(|_| Err(Broken::ByPeer));
            };
            match frame {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(by_peer)),
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Broken::ByCaller(blame(error))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    // No more than a place in the queue for room is asked for, so that a stream that waits holds nothing
                    // of the connection's window; h2 asks for the rest when it has the data.
                    Ok(data) => {
                        if !data.is_empty() {
                            self.stream.reserve_capacity(1);
                        }
                        self.waiting = Some((data, self.body.is_end_stream()));
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.stream.reserve_capacity(0);
                            return Poll::Ready(self.stream.send_trailers(trailers).map_err(by_peer));
                        }
                    }
                },
            }
        }
    }

    /// Ready when the piece that waits may go.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.waiting.as_ref().is_none_or(|(data, _)| data.is_empty()) {
            return Poll::Ready(Ok(()));
        }
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Broken::ByPeer)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn by_peer(_: h2::Error) -> Broken {
    Broken::ByPeer
}

/// A limit of ours says its own name; else the caller has gone away.
fn blame(error: BoxError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    let mut kind = Kind::ClientDisconnected;
    while let Some(e) = cause {
        if let Some(ours) = e.downcast_ref::<Error>() {
            kind = ours.kind();
        }
        cause = e.source();
    }
    kind.because(error)
}
