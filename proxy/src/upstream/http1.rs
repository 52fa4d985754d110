//! One request and its response on an HTTP/1.1 connection, in the caller's own task: what the connection brings wakes
//! whoever waits for it, and nobody stands between.

use super::{
    connect::Alive,
    exchange::{Message, Outgoing, Unsent},
};
use crate::{
    body::{Body, Interim},
    error::{Error, Kind, RetrySafety},
    http1::{Fault, HeadError, Incoming, ResponseHead, Sending, Shared, chunk_end, chunk_start, request_head},
    io::Io,
};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame};
use smallvec::SmallVec;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};
use tokio::{task::AbortHandle, time::Instant};

/// Interim responses to one request: more are no honest server's.
const INTERIM: usize = 64;

/// A connection of a pool.
pub(super) struct Connection {
    pub(super) conn: Shared,
    /// It takes no new request from then on.
    pub(super) retire_at: Option<Instant>,
    /// What it counts.
    pub(super) _alive: Alive,
}

/// What a connection brought.
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    /// The request's body is still being sent.
    pub(super) sending: Option<AbortHandle>,
}

impl Connection {
    pub(super) fn new(io: Io, retire_at: Option<Instant>, alive: Alive) -> Self {
        Self { conn: crate::http1::Conn::new(io, &[]).shared(), retire_at, _alive: alive }
    }

    /// Whether it may be used for another request: the peer has not closed it, nor said anything that nobody asked for.
    /// `waker` is woken when that changes.
    pub(super) fn is_open(&self, waker: &Waker) -> bool {
        let mut conn = self.conn.lock();
        conn.poll_gone(&mut Context::from_waker(waker)).is_pending() && !conn.is_ended() && !conn.has_more()
    }

    /// Asks the kernel itself, which may know more than its last report said.
    pub(super) fn is_quiet(&self) -> bool {
        self.conn.lock().is_quiet()
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn exchange(&self, mut message: Message, reused: bool) -> Result<Answer, Unsent> {
        let body = std::mem::replace(message.request.body_mut(), Body::Empty);
        let sending = Sending::of_request(message.request.headers(), &body);
        let mut pump = Pump { sending, body, state: Sent::Nothing, taken: SmallVec::new() };
        if pump.sending == Sending::Exact(0)
            && let Err(error) = poll_fn(|cx| pump.poll_nothing(cx)).await
        {
            return Err(Unsent { error, message: None });
        }
        {
            let mut conn = self.conn.lock();
            conn.sent = false;
            let out = conn.out.buffer();
            let Outgoing { request, spelling, .. } = &*message;
            request_head(out, request.method(), request.uri(), request.headers(), spelling.as_ref(), pump.sending);
        }
        let to_head = message.request.method() == Method::HEAD;
        match poll_fn(|cx| self.poll_exchange(&mut pump, to_head, message.interim.as_ref(), cx)).await {
            Ok(head) => Ok(Answer { head, sending: self.send_on(pump) }),
            Err(why) => Err(self.unsent(why, message, pump, reused)),
        }
    }

    fn poll_exchange(
        &self,
        pump: &mut Pump,
        to_head: bool,
        interim: Option<&Interim>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        if let Poll::Ready(Err(error)) = pump.poll(&self.conn, cx) {
            return Poll::Ready(Err(error));
        }
        for _ in 0..INTERIM {
            let head = match ready!(self.conn.lock().poll_response(to_head, cx)) {
                Ok(head) => head,
                Err(error) => return Poll::Ready(Err(Failure::Head(error))),
            };
            if !head.parts.status.is_informational() || head.parts.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(head));
            }
            if let Some(interim) = interim {
                interim.send(head.parts.status, &head.parts.headers, Some(&head.spelling));
            }
        }
        Poll::Ready(Err(Failure::Head(HeadError::Fault(Fault::Malformed("too many interim responses")))))
    }

    /// The response has come before all of the request has left: what is left goes on beside it.
    fn send_on(&self, mut pump: Pump) -> Option<AbortHandle> {
        if pump.is_over() {
            return None;
        }
        let conn = self.conn.clone();
        Some(tokio::spawn(async move { drop(poll_fn(|cx| pump.poll(&conn, cx)).await) }).abort_handle())
    }

    fn unsent(&self, why: Failure, mut message: Message, pump: Pump, reused: bool) -> Unsent {
        let sent = self.conn.lock().sent;
        if !sent && matches!(pump.state, Sent::Nothing | Sent::Broken) && !matches!(why, Failure::Body(_)) {
            let kind = if reused { Kind::StaleConnection } else { Kind::UpstreamClosed };
            let error = Error::new(kind).because(why.story()).retry_is(RetrySafety::NeverSent);
            *message.request.body_mut() = pump.body.again(pump.taken);
            return Unsent { error, message: Some(message) };
        }
        Unsent { error: classify(why, reused), message: None }
    }
}

/// Why there is no response.
enum Failure {
    /// What came is none, or nothing came.
    Head(HeadError),
    /// The request's body failed.
    Body(Error),
}

impl Failure {
    fn story(&self) -> String {
        match self {
            Self::Head(HeadError::Closed) => "closed without a response".into(),
            Self::Head(HeadError::Io(error)) => error.to_string(),
            Self::Head(HeadError::Fault(Fault::Malformed(why))) => (*why).into(),
            Self::Head(HeadError::Fault(Fault::TooLarge)) => "the response's head is too large".into(),
            Self::Body(error) => error.story(),
        }
    }
}

fn classify(why: Failure, reused: bool) -> Error {
    let story = why.story();
    match why {
        Failure::Body(error) => error,
        Failure::Head(HeadError::Fault(Fault::TooLarge)) => Kind::ResponseHeadersTooLarge.detail(story),
        Failure::Head(HeadError::Fault(Fault::Malformed(_))) => Kind::UpstreamProtocolError.detail(story),
        // Closed without an answer on a connection that had served before: most likely closed before the request came.
        Failure::Head(HeadError::Closed | HeadError::Io(_)) if reused => {
            Kind::StaleConnection.because(story).retry_is(RetrySafety::MayHaveBeenProcessed)
        }
        Failure::Head(HeadError::Closed | HeadError::Io(_)) => Kind::UpstreamClosed.because(story),
    }
}

/// How far a request's body has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Nothing of it.
    Nothing,
    Some,
    /// All of it has been read from its source.
    Read,
    /// All of it has left.
    All,
    /// It could not be written: the response, if there is one, says why.
    Broken,
}

/// Sends a request's body.
struct Pump {
    body: Body,
    sending: Sending,
    state: Sent,
    /// What has been read of the body, as long as nothing of the request has left: for another connection.
    taken: SmallVec<[Frame<Bytes>; 2]>,
}

impl Pump {
    fn is_over(&self) -> bool {
        matches!(self.state, Sent::All | Sent::Broken)
    }

    /// Waits for the end of a body that is said to be empty: none of it may be told from the next request.
    fn poll_nothing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.body.is_end_stream() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => break,
                Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
                Some(Ok(_)) => return Poll::Ready(Err(lies())),
                Some(Err(error)) => return Poll::Ready(Err(body_failed(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what can be sent. Fails when the body does.
    fn poll(&mut self, conn: &Shared, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.is_over() {
            let waits = self.poll_read(conn, cx)?;
            let mut conn = conn.lock();
            let flushed = conn.poll_flush(cx);
            if conn.sent && !self.taken.is_empty() {
                self.taken = SmallVec::new();
            }
            drop(conn);
            match flushed {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => self.state = Sent::Broken,
                Poll::Ready(Ok(())) if self.state == Sent::Read => self.state = Sent::All,
                Poll::Ready(Ok(())) if waits => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the body while there is room; whether it has to be waited for.
    fn poll_read(&mut self, conn: &Shared, cx: &mut Context<'_>) -> Result<bool, Failure> {
        if self.sending == Sending::Exact(0) && self.state == Sent::Nothing {
            self.state = Sent::Read;
        }
        while self.state != Sent::Read && conn.lock().out.has_room() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(frame))) => {
                    self.state = Sent::Some;
                    self.take(conn, &frame);
                    self.add(conn, frame)?;
                }
                Poll::Ready(None) => {
                    self.state = Sent::Some;
                    self.end(conn, None)?;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.state = Sent::Some;
                    return Err(Failure::Body(body_failed(error)));
                }
            }
        }
        Ok(false)
    }

    fn take(&mut self, conn: &Shared, frame: &Frame<Bytes>) {
        if conn.lock().sent {
            return;
        }
        let data = frame.data_ref().cloned().map(Frame::data);
        self.taken.extend(data.or_else(|| frame.trailers_ref().cloned().map(Frame::trailers)));
    }

    fn add(&mut self, conn: &Shared, frame: Frame<Bytes>) -> Result<(), Failure> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => {
                let mut conn = conn.lock();
                match &mut self.sending {
                    Sending::Exact(left) => {
                        *left = left.checked_sub(data.len() as u64).ok_or_else(|| Failure::Body(lies()))?;
                        conn.out.push(data, b"");
                        if *left == 0 {
                            self.state = Sent::Read;
                        }
                    }
                    Sending::Chunked | Sending::UntilClose => {
                        chunk_start(conn.out.buffer(), data.len());
                        conn.out.push(data, b"\r\n");
                    }
                }
                Ok(())
            }
            Err(frame) => self.end(conn, frame.into_trailers().ok()),
        }
    }

    fn end(&mut self, conn: &Shared, trailers: Option<http::HeaderMap>) -> Result<(), Failure> {
        match self.sending {
            Sending::Exact(0) => {}
            Sending::Exact(_) => return Err(Failure::Body(lies())),
            Sending::Chunked | Sending::UntilClose => chunk_end(conn.lock().out.buffer(), trailers.as_ref()),
        }
        self.state = Sent::Read;
        Ok(())
    }
}

fn lies() -> Error {
    Kind::ClientProtocolError.detail("the body is not as long as its Content-Length says")
}

/// What a failure of the request's body is to the request.
fn body_failed(error: crate::body::BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(error) => {
            let malformed = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::InvalidData);
            let kind = if malformed { Kind::ClientProtocolError } else { Kind::ClientDisconnected };
            kind.because(error)
        }
    }
}

impl Answer {
    /// The body that follows the head.
    pub(super) fn body(&self, conn: &Shared) -> Incoming {
        Incoming::new(conn.clone(), self.head.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use tokio::net::{TcpListener, TcpStream};

    /// To a peer that has reset the connection, or closed it with a byte of what comes unread.
    async fn sent_to_one_that_is_gone(reset: bool, body: Body) -> Unsent {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap().0);
        if reset {
            theirs.set_zero_linger().unwrap();
        }
        drop(theirs);
        ours.readable().await.unwrap();
        let connection = Connection::new(Io::plain(ours), None, Alive::new(&Arc::default(), None));
        let request = http::Request::post("http://a/").body(body).unwrap();
        let message = Box::new(Outgoing { request, spelling: None, interim: None });
        connection.exchange(message, true).await.err().unwrap()
    }

    fn body() -> Body {
        let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("x-end"), "1".parse().unwrap())]);
        Body::Empty.again([Frame::data("one".into()), Frame::data("two".into()), Frame::trailers(trailers)])
    }

    #[tokio::test]
    async fn what_goes_to_another_connection_goes_whole_though_it_had_been_read() {
        let unsent = sent_to_one_that_is_gone(true, body()).await;
        assert_eq!(unsent.error.kind(), Kind::StaleConnection);
        let again = unsent.message.expect("nothing of it has left").request.into_body();
        assert!(!again.is_end_stream() && again.size_hint().exact().is_none());
        let whole = again.collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["x-end"], "1");
        assert_eq!(whole.to_bytes(), "onetwo");
    }

    #[tokio::test]
    async fn what_has_left_in_part_goes_nowhere_else() {
        let unsent = sent_to_one_that_is_gone(false, body()).await;
        assert_eq!(unsent.error.kind(), Kind::StaleConnection);
        assert!(unsent.message.is_none());
    }
}
