//! HTTP/2 connections to an endpoint: each driven by one task, each request by whoever waits for its response.
//!
//! A request costs no task and no channel of its own: its body is sent while its response is waited for, by the same
//! poll. Only what is still being sent when the response has begun (a stream in both directions) gets a task.

mod pool;
mod task;
#[cfg(test)]
mod tests;
mod upload;

pub(super) use pool::{Shared, at_limit};
pub(super) use task::{Windows, open};

use super::exchange::{Exchange, Unsent};
use crate::{
    body::{self, Body},
    error::{Error, Kind, RetrySafety},
};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE},
};
use http_body::Body as _;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};
use upload::{Broken, Upload};

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
    /// When something was last read, in milliseconds since it was opened.
    heard: AtomicU64,
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
    async fn send(&mut self, request: Request<Body>, stream: Stream, reused: bool) -> Result<Exchange, Unsent> {
        if let Err(error) = poll_fn(|cx| self.h2.poll_ready(cx)).await {
            // GOAWAY has come, or the connection is gone: nothing was sent.
            self.state.closed.store(true, Relaxed);
            let kind = if reused { Kind::StaleConnection } else { Kind::UpstreamClosed };
            return Err(Unsent::never_sent(kind.because(error), request));
        }
        let (parts, body) = request.into_parts();
        let mut head = Request::from_parts(parts, ());
        prepare(&mut head, &body);
        let ends = body.is_end_stream();
        let (mut answer, sending) = match self.h2.send_request(head, ends) {
            Ok(begun) => begun,
            Err(error) => return Err(unsent(not_taken(error).retry_is(RetrySafety::NeverSent))),
        };
        let mut upload = (!ends).then(|| Upload::new(body, sending));
        let response = poll_fn(|cx| {
            match upload.as_mut().map(|upload| upload.poll(cx)) {
                // What the peer makes of a stream that it has reset, it says in the response.
                Some(Poll::Ready(Ok(()) | Err(Broken::ByPeer))) => upload = None,
                Some(Poll::Ready(Err(Broken::ByCaller(error)))) => return Poll::Ready(Err(error)),
                Some(Poll::Pending) | None => {}
            }
            Pin::new(&mut answer).poll(cx).map_err(classify)
        });
        let response = response.await.map_err(unsent)?;
        let length = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let response = response.map(|stream| {
            let mut body = body::Http2::new(stream, length);
            if let Some(mut upload) = upload {
                let rest = tokio::spawn(async move { drop(poll_fn(|cx| upload.poll(cx)).await) });
                body.ends_with(rest.abort_handle());
            }
            body.into()
        });
        Ok(Exchange { response, lease: Box::new(stream), reused, spelling: None })
    }
}

fn unsent(error: Error) -> Unsent {
    Unsent { error, request: None }
}

/// Gives a head what HTTP/2 wants and takes away what it forbids (RFC 9113 §8.2.2): header rules may have added some.
fn prepare(head: &mut Request<()>, body: &Body) {
    let defined = !matches!(*head.method(), Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    let length = body.size_hint().exact().filter(|length| *length != 0 || defined);
    let headers = head.headers_mut();
    remove_forbidden(headers);
    if let Some(length) = length
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

static FORBIDDEN: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

fn remove_forbidden(headers: &mut HeaderMap) {
    for name in &FORBIDDEN {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
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
