//! One request and its response on one connection: what came of it, and what becomes of the connection.

use crate::{
    body::{Body, Incoming},
    error::{Error, Kind, RetrySafety},
};
use http::{Request, Response};
use hyper::client::conn::TrySendError;
use std::any::Any;

/// A response, and the hold on the connection it comes over: dropped when the response has ended, it gives the
/// connection back.
pub struct Exchange {
    /// Headers have come; the body follows.
    pub response: Response<Incoming>,
    /// To be held until the body has ended.
    pub lease: Box<dyn Any + Send + Sync>,
    /// Whether the connection had carried a request before.
    pub reused: bool,
}

/// A request that got no response.
pub struct Unsent {
    /// Why.
    pub error: Error,
    /// The request itself, where not a byte of it had left.
    pub request: Option<Box<Request<Body>>>,
}

impl Unsent {
    pub(super) fn never_sent(error: Error, request: Request<Body>) -> Self {
        Self { error: error.retry_is(RetrySafety::NeverSent), request: Some(Box::new(request)) }
    }
}

/// What a failed send says about how far the request got.
pub(super) fn failed(mut error: TrySendError<Request<Body>>, reused: bool) -> Unsent {
    if let Some(request) = error.take_message() {
        let kind = if reused { Kind::StaleConnection } else { Kind::UpstreamClosed };
        return Unsent::never_sent(kind.because(error.into_error()), request);
    }
    Unsent { error: classify(error.into_error(), reused), request: None }
}

fn classify(error: hyper::Error, reused: bool) -> Error {
    // An error of ours (a limit on the request's body, the caller gone) comes back wrapped.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut ours = None;
    let mut io = false;
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<Error>() {
            ours = Some(e.kind());
        }
        io |= e.is::<std::io::Error>();
        cause = e.source();
    }
    if let Some(kind) = ours {
        return kind.because(error);
    }
    // Closed without an answer on a connection that had served before: most likely closed before the request came.
    let stale = || error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io;
    if error.is_parse_too_large() {
        Kind::ResponseHeadersTooLarge.because(error)
    } else if error.is_parse() {
        Kind::UpstreamProtocolError.because(error)
    } else if error.is_user() {
        Kind::ClientDisconnected.because(error)
    } else if reused && stale() {
        Kind::StaleConnection.because(error).retry_is(RetrySafety::MayHaveBeenProcessed)
    } else {
        Kind::UpstreamClosed.because(error)
    }
}

/// An error with all its causes, in one line.
pub(crate) fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
