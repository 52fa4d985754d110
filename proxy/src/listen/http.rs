//! HTTP on one connection, in both versions, until it closes or the process drains. For HTTP/1.1 see `http1`.

use super::{detect::Speaks, extended, http1, resets::Resets};
use crate::{
    body::Incoming,
    drain,
    error::Error,
    http1::{MAX_HEAD_BYTES, Spelling, Taken},
    stage::Response,
    upstream::Io,
};
use http::Request;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What one stream may have in flight towards us.
const STREAM_WINDOW: u32 = 128 * 1024;
/// All of them together: a stream that nobody reads leaves room for the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;

/// What one stream may hold of a response that its client does not read.
const SEND_BUFFER: usize = 64 * 1024;

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

/// Ends after a time, or never.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Serves a connection to its end; `first` has been read of it. Errors are the client's: they are told where somebody
/// looks for them.
pub async fn serve<A: Answer>(io: Io, first: Vec<u8>, speaks: Speaks, answer: A, drain: drain::Watch) {
    match speaks {
        Speaks::Http1 => http1::serve(io, &first, answer, drain).await,
        // In a box: a silent connection of HTTP/1 does not keep what this takes.
        Speaks::Http2 => {
            if let Err(error) = Box::pin(http2(io, first, answer, drain)).await {
                tracing::debug!(error = %crate::upstream::exchange::story(&error), "connection ended");
            }
        }
    }
}

async fn http2<A: Answer>(io: Io, first: Vec<u8>, answer: A, mut drain: drain::Watch) -> hyper::Result<()> {
    let io = Taken { io, first: first.into() };
    let resets = Arc::new(Resets::default());
    let counting = resets.clone();
    let old = pin!(after(answer.max_age()));
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let (answer, stream) = (answer.clone(), counting.begin());
        let extended = extended::translate(&mut request);
        async move {
            let response = answer.answer(request.map(Into::into), None).await;
            stream.answered();
            Ok::<_, Infallible>(match extended {
                Some(extended) => extended.answer(response),
                None => response,
            })
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(SEND_BUFFER)
        // Rapid reset (CVE-2023-44487): a caller may cancel, but not faster than we forget.
        .max_pending_accept_reset_streams(256)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20))
        .auto_date_header(false)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = resets.too_many() => {
            tracing::info!("a connection of HTTP/2 that cancels most of what it asks is closed");
            return Ok(());
        }
        () = drain.begun() => {}
        // A client that is told so makes another connection, and what is under way here comes to its end.
        () = old => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        result = connection => result,
        () = resets.too_many() => Ok(()),
    }
}

#[cfg(test)]
mod tests;
