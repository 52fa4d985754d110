//! HTTP on one connection, in both versions, until it closes or the process drains.
//!
//! While it drains, an HTTP/1.1 connection is not closed under a client that may just be sending: its next response says
//! `Connection: close`, and a silent one is closed at the end. HTTP/2 has GOAWAY for it.

use super::{
    detect::Speaks,
    io::{Busy, Served},
};
use crate::{drain, request::MAX_HEADERS, stage::Response};
use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

/// The bytes that a request's headers may have.
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What one stream may have in flight towards us.
const STREAM_WINDOW: u32 = 128 * 1024;
/// All of them together: a stream that nobody reads leaves room for the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// How long silent HTTP/1.1 connections are kept when the process drains: longer than a request is on its way.
const LINGER: Duration = Duration::from_secs(2);

/// Answers requests.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Answers one. `busy` counts it.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response> + Send;
}

/// Serves a connection to its end. Errors are the client's: they are told where somebody looks for them.
pub async fn serve<A: Answer>(io: Served, speaks: Speaks, busy: Arc<Busy>, answer: A, drain: drain::Watch) {
    let result = match speaks {
        Speaks::Http1 => http1(io, busy, answer, drain).await,
        Speaks::Http2 => http2(io, busy, answer, drain).await,
    };
    if let Err(error) = result {
        tracing::debug!(error = %crate::upstream::exchange::story(&error), "connection ended");
    }
}

async fn http1<A: Answer>(io: Served, busy: Arc<Busy>, answer: A, mut drain: drain::Watch) -> hyper::Result<()> {
    let (counting, draining) = (busy.clone(), drain.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let under = counting.begin();
        let (answer, draining) = (answer.clone(), draining.clone());
        async move {
            let mut response = answer.answer(request).await;
            if draining.is_draining() && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            under.until_end_of(&mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // `Served` has a clock of its own, which costs nothing where headers come in one piece.
        .header_read_timeout(None)
        .half_close(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES as usize)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = drain.begun() => {}
    }
    loop {
        tokio::select! {
            result = connection.as_mut() => return result,
            () = tokio::time::sleep(LINGER) => {
                if busy.is_idle() {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

async fn http2<A: Answer>(io: Served, busy: Arc<Busy>, answer: A, mut drain: drain::Watch) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let under = busy.begin();
        let answer = answer.clone();
        async move {
            let mut response = answer.answer(request).await;
            under.until_end_of(&mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(256 * 1024)
        // Rapid reset (CVE-2023-44487): a caller may cancel, but not faster than we forget.
        .max_pending_accept_reset_streams(256)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20))
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = drain.begun() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
