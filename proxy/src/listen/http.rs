//! HTTP on one connection, in both versions, until it closes or the process drains. For HTTP/1.1 see `http1`.

use super::{
    detect::Speaks,
    http1,
    io::{Busy, Served},
};
use crate::{drain, stage::Response, upstream::Io};
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

/// The bytes that a request's headers may have.
pub(super) const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What one stream may have in flight towards us.
const STREAM_WINDOW: u32 = 128 * 1024;
/// All of them together: a stream that nobody reads leaves room for the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;

/// Answers requests.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Answers one. `busy` counts it.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response> + Send;
}

/// Serves a connection to its end; `first` has been read of it. Errors are the client's: they are told where somebody
/// looks for them.
pub async fn serve<A: Answer>(mut io: Io, mut first: Vec<u8>, speaks: Speaks, answer: A, drain: drain::Watch) {
    loop {
        let busy = Arc::new(Busy::default());
        let served = Served::new(io, first, busy.clone());
        // In boxes: a connection at rest does not keep what serving it takes.
        let result = match speaks {
            Speaks::Http1 => Box::pin(http1::serve(served, busy, answer.clone(), drain.clone())).await,
            Speaks::Http2 => Box::pin(http2(served, busy, answer.clone(), drain.clone())).await.map(|()| None),
        };
        match result {
            Ok(Some(left)) => (io, first) = (left.io, left.first),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(error = %crate::upstream::exchange::story(&error), "connection ended");
                return;
            }
        }
        if first.is_empty() && !http1::rest(&io, drain.clone()).await {
            return;
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
