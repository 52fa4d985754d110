//! HTTP/1 on one connection: a request, its response, the next one. One task does all of it; what is read and written is
//! in [`crate::http1`].
//!
//! A connection that waits for its next request keeps no buffers: most connections of an application are silent most of
//! the time. While the process drains, a connection is not closed under a client that may just be sending: its next
//! response says `Connection: close`, and a silent one is closed at the end.

use super::http::{Answer, Answering};
use crate::{
    alarm::Alarm,
    body::{Incoming, ResponseBody},
    drain,
    error::{Error, Kind},
    http1::{self, Closing, Fault, HeadError, RequestHead, Sending, Shared, chunk_end, chunk_start, response_head},
    stage::Response,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body::{Body, Frame};
use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// From a request's first byte to the end of its headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client is listened to for what nobody wants any more.
const LINGER: Duration = Duration::from_secs(2);
/// What is read of a body that nobody wanted, so that the connection can go on.
const DISCARD: usize = 64 * 1024;
/// What is read after a response that closes the connection, so that the client can read it (RFC 9112 §9.6).
const AFTERWARDS: usize = 512 * 1024;

/// What becomes of a connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next request.
    Request,
    /// The next request, if what is left of this one is soon read.
    Rest,
    /// It is closed, as its client expects.
    Close,
    /// It is closed, and the client may still be sending.
    Linger,
    /// It is somebody else's, or broken.
    Over,
}

/// Serves a connection to its end.
pub(super) async fn serve<A: Answer>(conn: Shared, answer: A, drain: drain::Watch) {
    let mut begin = drain.clone();
    let end = pin!(async move { begin.out_of_patience().await });
    let old = answer.max_age().map(|age| Instant::now() + age);
    let mut waiting = Waiting { drain: &drain, end, woken: false, over: false, alarm: None };
    // What is kept over a wait is kept by every silent connection: a request and its response live elsewhere.
    loop {
        let mut reply = match poll_fn(|cx| waiting.poll(&conn, cx)).await {
            Some(Ok(head)) => {
                let (asked, mut answering) = ask(&conn, head, &answer);
                match poll_fn(|cx| poll_answer(&conn, &mut answering, cx)).await {
                    Some(response) => Reply::begin(&conn, response, &asked, ends(&drain, old)),
                    None => return,
                }
            }
            Some(Err(error)) => {
                let asked = Asked { method: Method::GET, version: Version::HTTP_11, persists: false };
                Reply::begin(&conn, answer.refuse(&error), &asked, ends(&drain, old))
            }
            None => return poll_fn(|cx| conn.lock().poll_close(cx)).await,
        };
        let sent = poll_fn(|cx| reply.poll(&conn, cx)).await;
        let next = if sent.is_ok() { reply.after(&conn) } else { Next::Over };
        drop(reply);
        match next {
            Next::Request => {}
            // In boxes: rare, and large.
            Next::Rest if Box::pin(discard(&conn, DISCARD, read_over)).await => {}
            Next::Rest | Next::Linger => return Box::pin(linger(&conn)).await,
            Next::Close => return poll_fn(|cx| conn.lock().poll_close(cx)).await,
            Next::Over => return,
        }
    }
}

/// Whether a connection is told that this was its last response: the process drains, or it is old.
fn ends(drain: &drain::Watch, old: Option<Instant>) -> bool {
    drain.is_draining() || old.is_some_and(|old| old <= Instant::now())
}

/// Waits for a request.
struct Waiting<'a, F> {
    drain: &'a drain::Watch,
    /// Ready when the process drains, and a silent connection has had its time.
    end: Pin<&'a mut F>,
    woken: bool,
    over: bool,
    /// The end of its patience with a part of a head.
    alarm: Option<Alarm>,
}

impl<F: Future<Output = ()>> Waiting<'_, F> {
    /// The next request, or why there is none; `None`: the client has gone, or had its time.
    fn poll(&mut self, conn: &Shared, cx: &mut Context<'_>) -> Poll<Option<Result<RequestHead, Error>>> {
        let begun = {
            let mut conn = conn.lock();
            match conn.poll_request(cx) {
                Poll::Ready(Ok(head)) => {
                    self.alarm = None;
                    return Poll::Ready(Some(Ok(head)));
                }
                Poll::Ready(Err(HeadError::Fault(fault))) => return Poll::Ready(Some(Err(refused(fault)))),
                Poll::Ready(Err(HeadError::Closed | HeadError::Io(_))) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if !conn.has_more() {
                conn.rest();
            }
            conn.has_more()
        };
        // One task polls this to its end, so what wakes it once need not be told again before there is something to see.
        if !std::mem::replace(&mut self.woken, true) || self.drain.has_begun() {
            self.over = self.over || self.end.as_mut().poll(cx).is_ready();
        }
        if !begun {
            self.alarm = None;
            return if self.over { Poll::Ready(None) } else { Poll::Pending };
        }
        let alarm = self.alarm.get_or_insert_with(|| Alarm::new(Instant::now() + HEADERS_TIMEOUT));
        ready!(alarm.poll(cx));
        Poll::Ready(Some(Err(Kind::ClientTimeout.detail("the request's headers did not come in time"))))
    }
}

fn refused(fault: Fault) -> Error {
    match fault {
        Fault::Malformed(why) => Kind::BadRequest.detail(why),
        Fault::TooLarge => Kind::RequestHeadersTooLarge.into(),
    }
}

/// What of a request matters for its response.
struct Asked {
    method: Method,
    version: Version,
    /// Whether the client wants to go on with this connection.
    persists: bool,
}

/// Hands a request to whoever answers it.
fn ask<'a, A: Answer>(conn: &Shared, head: RequestHead, answer: &'a A) -> (Asked, Answering<'a>) {
    let RequestHead { parts, length, persists, spelling, .. } = head;
    let asked = Asked { method: parts.method.clone(), version: parts.version, persists };
    let request = Request::from_parts(parts, Incoming::Http1(http1::Incoming::new(conn.clone(), length)));
    (asked, answer.answer(request, Some(spelling)))
}

/// The response; `None`: its client has gone.
fn poll_answer(conn: &Shared, answering: &mut Answering<'_>, cx: &mut Context<'_>) -> Poll<Option<Response>> {
    match answering.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => poll_meanwhile(conn, cx).map(|_| None),
    }
}

/// Interim responses leave; and if the client goes away, nobody need go on. Ready: it has gone.
fn poll_meanwhile(conn: &Shared, cx: &mut Context<'_>) -> Poll<io::Error> {
    let mut conn = conn.lock();
    if !conn.out.is_empty()
        && let Poll::Ready(Err(error)) = conn.poll_flush(cx)
    {
        return Poll::Ready(error);
    }
    conn.poll_gone(cx)
}

/// A response on its way.
struct Reply {
    body: ResponseBody,
    sender: Sender,
    /// The connection goes on after it.
    persists: bool,
    /// The client wanted it to.
    wanted: bool,
    /// It goes on as something else.
    switches: bool,
}

impl Reply {
    /// Writes its head.
    fn begin(conn: &Shared, response: Response, asked: &Asked, ends: bool) -> Self {
        let (parts, mut body) = response.into_parts();
        let sending = Sending::of_response(parts.status, &parts.headers, &body, &asked.method, asked.version);
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS
            || asked.method == Method::CONNECT && parts.status.is_success();
        if sending == Sending::Exact(0) {
            body.leave_out();
        }
        let mut conn = conn.lock();
        // A client that was not told to send its body may send it or not: what follows cannot be told from it.
        let uncertain = conn.end_interim() && !conn.is_read();
        let persists = asked.persists && !uncertain && sending != Sending::UntilClose && !ends;
        let closing = match (switches, persists) {
            (true, _) => Closing::AsItSays,
            (false, false) => Closing::Close,
            (false, true) if asked.version == Version::HTTP_10 => Closing::KeepAlive,
            (false, true) => Closing::No,
        };
        let to = (&asked.method, asked.version);
        let spelling = body.take_spelling();
        response_head(conn.out.buffer(), parts.status, &parts.headers, spelling.as_ref(), to, sending, closing);
        let sender = Sender { sending, done: sending == Sending::Exact(0) };
        Self { body, sender, persists, wanted: asked.persists, switches }
    }

    fn poll(&mut self, conn: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.sender.poll(&mut self.body, conn, cx)
    }

    /// What becomes of the connection, once the response has left.
    fn after(&self, conn: &Shared) -> Next {
        let mut conn = conn.lock();
        if self.switches {
            conn.hand_over();
            return Next::Over;
        }
        let read = conn.is_read();
        if !read {
            conn.close_turn();
        }
        match (read, self.persists) {
            (true, true) => Next::Request,
            (true, false) if !self.wanted && !conn.has_more() => Next::Close,
            (false, true) => Next::Rest,
            _ => Next::Linger,
        }
    }
}

/// How much of a body has been read over; `None`: all of it, or it broke off.
fn read_over(conn: &mut http1::Conn, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    conn.poll_body(cx).map(frame_length)
}

fn frame_length(polled: Option<io::Result<Frame<Bytes>>>) -> Option<usize> {
    polled?.ok().map(|frame| frame.data_ref().map_or(0, Bytes::len))
}

/// Reads what nobody wants: to its end (`true` if that was reached), but no more than `most`, and not for long.
async fn discard(
    conn: &Shared,
    most: usize,
    mut poll: impl FnMut(&mut http1::Conn, &mut Context<'_>) -> Poll<Option<usize>>,
) -> bool {
    let mut left = most;
    let all = poll_fn(|cx| {
        loop {
            match ready!(poll(&mut conn.lock(), cx)) {
                None => return Poll::Ready(()),
                Some(n) if n > left => return Poll::Ready(()),
                Some(n) => left -= n,
            }
        }
    });
    let in_time = tokio::time::timeout(LINGER, all).await.is_ok();
    in_time && conn.lock().is_read()
}

/// Closes towards a client that may still be sending: it is told, and listened to for a while, since a connection that
/// is reset takes the response with it.
async fn linger(conn: &Shared) {
    if poll_fn(|cx| conn.lock().poll_shutdown(cx)).await.is_err() {
        return;
    }
    discard(conn, AFTERWARDS, http1::Conn::poll_discard).await;
}

/// Sends a body.
struct Sender {
    sending: Sending,
    done: bool,
}

/// The response cannot be completed: the connection is cut, which is how the client knows.
struct Cut;

impl Sender {
    fn poll(&mut self, body: &mut ResponseBody, conn: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        loop {
            let read = self.poll_read(body, conn, cx);
            let mut conn = conn.lock();
            let waits = match read {
                Ok(waits) => waits,
                Err(cut) => {
                    // What came before leaves before the end.
                    let _ = conn.poll_flush(cx);
                    return Poll::Ready(Err(cut));
                }
            };
            ready!(conn.poll_flush(cx)).map_err(|_| Cut)?;
            if self.done {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return conn.poll_gone(cx).map(|_| Err(Cut));
            }
        }
    }

    /// Reads from the body while there is room; whether it has to be waited for.
    fn poll_read(&mut self, body: &mut ResponseBody, conn: &Shared, cx: &mut Context<'_>) -> Result<bool, Cut> {
        while !self.done && conn.lock().out.has_room() {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(frame))) => self.add(conn, frame)?,
                Poll::Ready(None) => self.end(conn, None)?,
                Poll::Ready(Some(Err(_))) => return Err(Cut),
            }
            if self.sending == Sending::Exact(0) && body.is_end_stream() {
                self.done = true;
            }
        }
        Ok(false)
    }

    fn add(&mut self, conn: &Shared, frame: Frame<Bytes>) -> Result<(), Cut> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.end(conn, frame.into_trailers().ok()),
        };
        if data.is_empty() {
            return Ok(());
        }
        let mut conn = conn.lock();
        match &mut self.sending {
            Sending::Exact(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Cut)?;
                conn.out.push(data, b"");
            }
            Sending::Chunked => {
                chunk_start(conn.out.buffer(), data.len());
                conn.out.push(data, b"\r\n");
            }
            Sending::UntilClose => conn.out.push(data, b""),
        }
        Ok(())
    }

    fn end(&mut self, conn: &Shared, trailers: Option<http::HeaderMap>) -> Result<(), Cut> {
        match self.sending {
            Sending::Exact(0) | Sending::UntilClose => {}
            Sending::Exact(_) => return Err(Cut),
            Sending::Chunked => chunk_end(conn.lock().out.buffer(), trailers.as_ref()),
        }
        self.done = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
