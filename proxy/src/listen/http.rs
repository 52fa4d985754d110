//! HTTP on one connection, in both versions, until it closes or the process drains. See `http1` and `http2`.

use super::{detect::Speaks, http1, http2};
use crate::{body::Incoming, drain, error::Error, http1::Spelling, io::Io, stage::Response};
use http::Request;
use std::{future::Future, pin::Pin};

/// A response that is being made.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

/// Answers requests.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Answers one; `spelling` is its head as it was written, in HTTP/1.
    fn answer(&self, request: Request<Incoming>, spelling: Option<Spelling>) -> Answering<'_>;

    /// Answers what is no request.
    fn refuse(&self, error: &Error) -> Response;
}

/// Serves a connection to its end; `first` has been read of it. Errors are the client's: they are told where somebody
/// looks for them.
pub async fn serve<A: Answer>(io: Io, first: Vec<u8>, speaks: Speaks, answer: A, drain: drain::Watch) {
    match speaks {
        Speaks::Http1 => http1::serve(io, &first, answer, drain).await,
        // In a box: a silent connection of HTTP/1 does not keep what this takes.
        Speaks::Http2 => Box::pin(http2::serve(io, first, answer, drain)).await,
    }
}
