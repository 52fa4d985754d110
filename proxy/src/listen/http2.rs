//! HTTP/2 on one connection: frames, windows and header compression are h2's; each request is answered by a task of its
//! own.
//!
//! A request that its client has taken back is not begun: a client that asks and cancels in one breath (CVE-2023-44487)
//! costs nobody behind this sidecar anything.

#[cfg(test)]
mod tests;

use super::{
    extended,
    http::Answer,
    resets::{self, Resets},
};
use crate::{
    body::{Incoming, ResponseBody},
    drain,
    http1::{MAX_HEAD_BYTES, Taken},
    http2::{self, Heard, Interim, Limits, Sending, Silence, Takeover},
    io::Io,
    stage::Response,
};
use bytes::Bytes;
use h2::{PingPong, Reason, RecvStream, SendStream, server};
use http::{Method, Request, header::EXPECT};
use http_body::Body as _;
use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::sync::oneshot;

/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What one stream may have in flight towards us.
const STREAM_WINDOW: u32 = 128 * 1024;
/// All of them together: a stream that nobody reads leaves room for the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// What one stream may hold of a response that its client does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// A client that says nothing for so long is asked whether it is there, and has so long to answer.
const SILENCE: Limits = Limits { silence: Duration::from_secs(30), patience: Duration::from_secs(20), idle: None };
/// From the first byte to the end of the preface and the client's settings.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave the window of a stream shut that has something for it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(300);

/// Serves a connection to its end; `first` has been read of it.
pub(super) async fn serve<A: Answer>(io: Io, first: Vec<u8>, answer: A, mut drain: drain::Watch) {
    let (io, silence) = Silence::of(Taken { io, first: first.into() }, SILENCE);
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buffer_size(SEND_BUFFER)
        // Rapid reset (CVE-2023-44487): a caller may cancel, but not faster than we forget.
        .max_pending_accept_reset_streams(256)
        .max_local_error_reset_streams(Some(1024))
        .enable_connect_protocol();
    let mut h2 = match tokio::time::timeout(PREFACE_TIMEOUT, builder.handshake(io)).await {
        Ok(Ok(h2)) => h2,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection did not become one of HTTP/2"),
        Err(_) => return tracing::debug!("a connection did not become one of HTTP/2 in time"),
    };
    let Some(pings) = h2.ping_pong() else { return };
    let resets = Arc::new(Resets::default());
    let mut old = pin!(after(answer.max_age()));
    let mut serving = Serving { h2, pings, silence, answer, resets: resets.clone() };
    let mut too_many = pin!(resets.too_many());
    tokio::select! {
        () = poll_fn(|cx| serving.poll(cx)) => return,
        () = too_many.as_mut() => return,
        () = drain.begun() => serving.h2.graceful_shutdown(),
        // A client that is told so makes another connection, and what is under way here comes to its end.
        () = old.as_mut() => serving.h2.graceful_shutdown(),
    }
    tokio::select! {
        () = poll_fn(|cx| serving.poll(cx)) => {}
        () = too_many => {}
    }
}

/// Ends after a time, or never.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

struct Serving<A> {
    h2: server::Connection<Heard<Taken>, Bytes>,
    pings: PingPong,
    silence: Silence,
    answer: A,
    resets: Arc<Resets>,
}

impl<A: Answer> Serving<A> {
    /// Reads, writes and begins what is asked. Ready: the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    tokio::spawn(exchange(self.answer.clone(), request, respond, self.resets.begin()));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let why = ready!(self.silence.poll(true, &mut self.pings, cx));
        tracing::debug!(?why, "connection ended");
        Poll::Ready(())
    }
}

/// A request and its response. No `async fn`, which would hold what it is given twice.
fn exchange<A: Answer>(
    answer: A,
    request: Request<RecvStream>,
    respond: server::SendResponse<Bytes>,
    counted: resets::Stream,
) -> impl Future<Output = ()> {
    let (mut request, client, connect) = admit(request, respond);
    let extended = extended::translate(&mut request);
    let mut request = Some(request);
    async move {
        let mut answering = None;
        let response = poll_fn(|cx| {
            if client.poll_cancelled(cx).is_ready() {
                return Poll::Ready(None);
            }
            if let Some(request) = request.take() {
                answering = Some(answer.answer(request, None));
            }
            let Some(answering) = &mut answering else { return Poll::Pending };
            answering.as_mut().poll(cx).map(Some)
        });
        let Some(mut response) = response.await else { return };
        drop(answering);
        counted.answered();
        if let Some(extended) = extended {
            response = extended.answer(response);
        }
        if let Some(mut sending) = reply(response, client, connect) {
            // A client that wants no more, and a body that broke: both have been told.
            let _ = poll_fn(|cx| sending.poll(cx)).await;
        }
    }
}

/// A request as the stages know it; of `CONNECT` besides who waits for the stream.
fn admit(
    request: Request<RecvStream>,
    respond: server::SendResponse<Bytes>,
) -> (Request<Incoming>, Interim, Option<oneshot::Sender<SendStream<Bytes>>>) {
    let (parts, stream) = request.into_parts();
    let continues = parts.headers.get(EXPECT).is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let client = Interim::new(respond, continues);
    if parts.method == Method::CONNECT {
        let (sender, takeover) = Takeover::new(stream);
        let body = Incoming::Connect(Some(Box::new(takeover)));
        return (Request::from_parts(parts, body), client, Some(sender));
    }
    let body = http2::Incoming::new(stream, http2::length(&parts.headers)).with_interim(client.clone());
    (Request::from_parts(parts, body.into()), client, None)
}

/// Sends a response's head. What is left is its body, until its client wants no more of it.
fn reply(
    response: Response,
    client: Interim,
    connect: Option<oneshot::Sender<SendStream<Bytes>>>,
) -> Option<Sending<ResponseBody>> {
    let (parts, body) = response.into_parts();
    let mut head = http::Response::from_parts(parts, ());
    http2::remove_forbidden(head.headers_mut());
    // RFC 9113 §8.5: with a success, the stream is the client's and the destination's.
    let connect = connect.filter(|_| head.status().is_success());
    let ends = connect.is_none() && body.is_end_stream();
    if connect.is_none() && !ends {
        http2::say_length(head.headers_mut(), body.size_hint().exact());
    }
    let sent = client.respond(head, ends);
    drop(client);
    let stream = sent.inspect_err(|error| tracing::debug!(%error, "a response was not sent")).ok()?;
    if let Some(connect) = connect {
        // Dropped where nobody waits: that ends it.
        drop(connect.send(stream));
        return None;
    }
    (!ends).then(|| Sending::new(body, stream, Reason::INTERNAL_ERROR, Some(FLUSH_TIMEOUT)))
}
