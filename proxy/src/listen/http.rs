//! HTTP on one connection, in both versions, until it closes or the process drains. See `http1` and `http2`.

use super::{detect::Speaks, http1, http2};
use crate::{
    body::Incoming,
    drain,
    error::Error,
    http1::{Conn, Shared, Spelling},
    io::Io,
    stage::Response,
};
use http::Request;
use std::{future::Future, pin::Pin, time::Duration};

/// A response that is being made.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

/// Answers requests.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Answers one; `spelling` is its head as it was written, in HTTP/1.
    fn answer(&self, request: Request<Incoming>, spelling: Option<Spelling>) -> Answering<'_>;

    /// Answers what is no request.
    fn refuse(&self, error: &Error) -> Response;

    /// How old the connection may become before its client is told to make another; `None`: as old as it likes.
    fn max_age(&self) -> Option<Duration> {
        None
    }
}

/// Serves a connection to its end; `first` has been read of it. Errors are the client's: they are told where somebody
/// looks for them.
pub async fn serve<A: Answer>(io: Io, first: Vec<u8>, speaks: Speaks, answer: A, drain: drain::Watch) {
    serve_in(Conn::vacant().shared(), io, first, speaks, answer, drain).await;
}

/// The same, with the `room` that HTTP/1 needs made before.
pub async fn serve_in<A: Answer>(room: Shared, io: Io, first: Vec<u8>, speaks: Speaks, answer: A, drain: drain::Watch) {
    match speaks {
        Speaks::Http1 => {
            room.lock().move_in(io, &first);
            drop(first);
            http1::serve(room, answer, drain).await;
        }
        // In a box: a silent connection of HTTP/1 does not keep what this takes.
        Speaks::Http2 => {
            drop(room);
            Box::pin(http2::serve(io, first, answer, drain)).await;
        }
    }
}

#[cfg(test)]
mod tests;
