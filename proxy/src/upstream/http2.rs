//! HTTP/2 connections to an endpoint: each driven by one task, each request by whoever waits for its response.
//!
//! A request costs no task and no channel of its own: its body is sent while its response is waited for, by the same
//! poll. Only what is still being sent when the response has begun (a stream in both directions) gets a task.

mod pool;
mod task;
#[cfg(test)]
mod tests;

pub(super) use pool::{Shared, at_limit};
pub(super) use task::{Windows, open};

use super::exchange::{Exchange, Message, Outgoing, Unsent};
use crate::{
    body::{Body, Interim, ResponseBody},
    error::{Error, Kind, Result, RetrySafety},
    http2::{self, Broken, Sending},
};
use bytes::Bytes;
use h2::{
    Reason,
    client::{ResponseFuture, SendRequest},
};
use http::{Method, Request};
use http_body::Body as _;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

/// Interim responses to one request: more are no honest server's.
const MAX_INTERIM: usize = 32;

/// A connection, to send on. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    h2: SendRequest<Bytes>,
    state: Arc<State>,
}

/// What a connection's task and its requests tell each other.
#[derive(Debug, Default)]
struct State {
    /// Requests whose response has not ended.
    streams: AtomicUsize,
    /// It takes no more requests.
    closed: AtomicBool,
}

/// A request on a connection, counted until its response has ended.
pub(super) struct Stream(Arc<State>);

impl Stream {
    fn start(state: &Arc<State>) -> Self {
        state.streams.fetch_add(1, Relaxed);
        Self(state.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl Connection {
    fn is_closed(&self) -> bool {
        self.state.closed.load(Relaxed)
    }

    fn streams(&self) -> usize {
        self.state.streams.load(Relaxed)
    }

    /// Sends a request and waits for its response's headers. Dropped before that, it resets the stream.
    async fn send(&mut self, message: Message, stream: Stream, reused: bool) -> Result<Exchange, Unsent> {
        if let Err(error) = poll_fn(|cx| self.h2.poll_ready(cx)).await {
            // GOAWAY has come, or the connection is gone: nothing was sent.
            self.state.closed.store(true, Relaxed);
            let kind = if reused { Kind::StaleConnection } else { Kind::UpstreamClosed };
            return Err(Unsent::never_sent(kind.because(error), message));
        }
        let Outgoing { request, interim, .. } = *message;
        let (mut answer, mut upload) = self.begin(request).map_err(unsent)?;
        let mut told = 0;
        let response = poll_fn(|cx| {
            match upload.as_mut().map(|upload| upload.poll(cx)) {
                // What the peer makes of a stream that it has reset, it says in the response.
                Some(Poll::Ready(Ok(()) | Err(Broken::ByPeer))) => upload = None,
                Some(Poll::Ready(Err(Broken::ByCaller(error)))) => return Poll::Ready(Err(error)),
                Some(Poll::Pending) | None => {}
            }
            if let Some(interim) = &interim {
                ready!(poll_interim(&mut answer, interim, &mut told, cx))?;
            }
            Pin::new(&mut answer).poll(cx).map_err(classify)
        });
        let response = response.await.map_err(unsent)?;
        let length = http2::length(response.headers());
        let response = response.map(|received| {
            let mut body = http2::Incoming::new(received, length);
            if let Some(mut upload) = upload {
                let rest = tokio::spawn(async move { drop(poll_fn(|cx| upload.poll(cx)).await) });
                body.ends_with(rest.abort_handle());
            }
            let mut body = ResponseBody::incoming(body);
            body.hold().things.push(Box::new(stream));
            body
        });
        Ok(Exchange { response, reused })
    }

    /// Sends a request's head. What there is of a body is to be sent besides.
    fn begin(&mut self, request: Request<Body>) -> Result<(ResponseFuture, Option<Sending<Body>>)> {
        let (parts, body) = request.into_parts();
        let mut head = Request::from_parts(parts, ());
        prepare(&mut head, &body);
        let ends = body.is_end_stream();
        let begun = self.h2.send_request(head, ends);
        let (answer, sending) = begun.map_err(|error| not_taken(error).retry_is(RetrySafety::NeverSent))?;
        Ok((answer, (!ends).then(|| Sending::new(body, sending, Reason::CANCEL, None).with_head())))
    }
}

/// Passes on what comes before the response. Ready: the response is next.
fn poll_interim(
    answer: &mut ResponseFuture,
    interim: &Interim,
    told: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<()>> {
    while let Some(response) = ready!(answer.poll_informational(cx)) {
        let response = response.map_err(classify)?;
        *told += 1;
        if *told > MAX_INTERIM {
            return Poll::Ready(Err(Kind::UpstreamProtocolError.detail("too many interim responses")));
        }
        interim.send(response.status(), response.headers(), None);
    }
    Poll::Ready(Ok(()))
}

fn unsent(error: Error) -> Unsent {
    Unsent { error, message: None }
}

/// Gives a head what HTTP/2 wants, and takes away what it forbids.
fn prepare(head: &mut Request<()>, body: &Body) {
    let defined = !matches!(*head.method(), Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    let length = body.size_hint().exact().filter(|length| *length != 0 || defined);
    let headers = head.headers_mut();
    http2::remove_forbidden(headers);
    http2::say_length(headers, length);
}

/// The connection was ready, and yet does not take the request: it is over, or the message is none of HTTP/2.
fn not_taken(error: h2::Error) -> Error {
    if error.is_io() || error.is_go_away() { classify(error) } else { Kind::Internal.because(error) }
}

/// What became of a request that was sent.
fn classify(error: h2::Error) -> Error {
    match error.reason() {
        // RFC 9113 §8.7: REFUSED_STREAM was not processed.
        Some(h2::Reason::REFUSED_STREAM) if error.is_reset() => Kind::UpstreamRefused.because(error),
        // §6.8: nor were streams above the last one of GOAWAY, whatever its reason; only those are told of it.
        _ if error.is_go_away() && error.is_remote() => Kind::UpstreamRefused.because(error),
        _ if error.is_io() => Kind::UpstreamClosed.because(error),
        _ => Kind::UpstreamReset.because(error),
    }
}
