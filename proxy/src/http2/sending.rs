//! A body on its way out, as fast as the peer's windows allow.

use crate::{
    alarm::Alarm,
    error::{Error, Kind},
};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// Any failure while a body is read.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body and the stream it goes over.
pub struct Sending<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// A piece that waits for room in the peer's window, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
    /// The head has not left.
    with_head: bool,
    /// What the peer is told when the body fails where it comes from.
    failed: Reason,
    /// How long the peer may leave its window shut.
    patience: Option<Duration>,
    alarm: Option<Alarm>,
}

/// Why a body was not sent to its end.
pub enum Broken {
    /// The peer takes no more; the response says why.
    ByPeer,
    /// The body failed where it comes from; the stream is reset.
    ByCaller(Error),
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Sending<B> {
    /// `failed`: what the peer is told when the body fails where it comes from. `patience`: how long it may leave its
    /// window shut; `None`: somebody else watches that.
    pub fn new(body: B, stream: SendStream<Bytes>, failed: Reason, patience: Option<Duration>) -> Self {
        Self { body, stream, waiting: None, with_head: false, failed, patience, alarm: None }
    }

    /// Of a request: the piece that is there at the first poll goes with the head, in one write. h2 has room for a stream
    /// only when it has been opened, which is when its head is written: that piece would wait for it, and leave in a write,
    /// and a TLS record, of its own. Where the peer's window does not take it, h2 holds it instead of `waiting`.
    #[must_use]
    pub fn with_head(mut self) -> Self {
        self.with_head = true;
        self
    }

    /// Sends what can be sent.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut with_head = mem::take(&mut self.with_head);
        loop {
            if self.waiting.is_some() {
                if !mem::take(&mut with_head) {
                    ready!(self.poll_room(cx))?;
                }
                if let Some((data, last)) = self.waiting.take() {
                    self.stream.send_data(data, last).map_err(by_peer)?;
                    if last {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // A reset is to be noticed while there is nothing to send.
                return self.stream.poll_reset(cx).map(|_| Err(Broken::ByPeer));
            };
            match frame {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(by_peer)),
                Some(Err(error)) => {
                    self.stream.send_reset(self.failed);
                    return Poll::Ready(Err(Broken::ByCaller(blame(error))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    // No more than a place in the queue for room is asked for, so that a stream that waits holds nothing
                    // of the connection's window; h2 asks for the rest when it has the data.
                    Ok(data) => {
                        if !data.is_empty() {
                            self.stream.reserve_capacity(1);
                        }
                        self.waiting = Some((data, self.body.is_end_stream()));
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.stream.reserve_capacity(0);
                            return Poll::Ready(self.stream.send_trailers(trailers).map_err(by_peer));
                        }
                    }
                },
            }
        }
    }

    /// Ready when the piece that waits may go.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.waiting.as_ref().is_none_or(|(data, _)| data.is_empty()) {
            return Poll::Ready(Ok(()));
        }
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Broken::ByPeer)),
                Poll::Pending => {
                    ready!(self.poll_patience(cx));
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Broken::ByPeer));
                }
            }
        }
        self.alarm = None;
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has left its window shut for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = self.patience else { return Poll::Pending };
        self.alarm.get_or_insert_with(|| Alarm::new(Instant::now() + patience)).poll(cx)
    }
}

fn by_peer(_: h2::Error) -> Broken {
    Broken::ByPeer
}

/// A limit of ours says its own name; else the caller has gone away.
fn blame(error: BoxError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    let mut kind = Kind::ClientDisconnected;
    while let Some(e) = cause {
        if let Some(ours) = e.downcast_ref::<Error>() {
            kind = ours.kind();
        }
        cause = e.source();
    }
    kind.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_leaves_its_window_shut_loses_the_stream() {
        const PATIENCE: Duration = Duration::from_secs(300);
        let (a, b) = tokio::io::duplex(1 << 20);
        let peer = async {
            let (mut sender, connection) =
                h2::client::Builder::new().initial_window_size(1_000).handshake::<_, Bytes>(a).await.unwrap();
            tokio::spawn(connection);
            let (answer, _) = sender.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            let window = async |body: &mut h2::RecvStream| {
                let mut read = 0;
                while read < 1_000 {
                    read += body.data().await.unwrap().unwrap().len();
                }
            };
            window(&mut body).await;
            // A little at a time is no silence.
            for _ in 0..5 {
                tokio::time::sleep(PATIENCE * 2 / 3).await;
                body.flow_control().release_capacity(1_000).unwrap();
                window(&mut body).await;
            }
            let begun = Instant::now();
            let error = body.data().await.unwrap().unwrap_err();
            assert_eq!((error.reason(), begun.elapsed().as_secs()), (Some(Reason::CANCEL), PATIENCE.as_secs()));
        };
        let ours = async {
            let mut connection = h2::server::handshake(b).await.unwrap();
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            tokio::spawn(async move { while connection.accept().await.is_some() {} });
            let stream = respond.send_response(Response::new(()), false).unwrap();
            // In pieces: what a window has taken is the connection's, and not waited for here.
            let pieces = (0..100).map(|_| Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(&[b'x'; 500]))));
            let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
            let mut sending = Sending::new(body, stream, Reason::INTERNAL_ERROR, Some(PATIENCE));
            assert!(matches!(poll_fn(|cx| sending.poll(cx)).await, Err(Broken::ByPeer)));
        };
        tokio::join!(peer, ours);
    }

    #[tokio::test]
    async fn a_body_that_fails_is_told_in_the_words_given() {
        let (a, b) = tokio::io::duplex(1 << 20);
        let peer = async {
            let (mut sender, connection) = h2::client::handshake(a).await.unwrap();
            tokio::spawn(connection);
            let (answer, _) = sender.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
            assert_eq!(answer.await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR), "before the head had left");
        };
        let ours = async {
            let mut connection = h2::server::handshake(b).await.unwrap();
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            tokio::spawn(async move { while connection.accept().await.is_some() {} });
            let stream = respond.send_response(Response::new(()), false).unwrap();
            let broken = futures::stream::iter([Err::<http_body::Frame<Bytes>, BoxError>("no".into())]);
            let body = http_body_util::StreamBody::new(broken);
            let mut sending = Sending::new(body, stream, Reason::INTERNAL_ERROR, None);
            assert!(matches!(poll_fn(|cx| sending.poll(cx)).await, Err(Broken::ByCaller(_))));
        };
        tokio::join!(peer, ours);
    }

    #[tokio::test]
    async fn one_piece_goes_with_the_head_and_those_after_it_wait_for_room() {
        let (a, _peer) = tokio::io::duplex(1 << 20);
        let (mut sender, _connection) = h2::client::handshake(a).await.unwrap();
        let taken = std::cell::Cell::new(0);
        let pieces = (0..100).map(|_| {
            taken.set(taken.get() + 1);
            Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(b"piece")))
        });
        let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
        let (_answer, stream) = sender.send_request(Request::post("http://a/").body(()).unwrap(), false).unwrap();
        let mut sending = Sending::new(body, stream, Reason::CANCEL, None).with_head();
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(sending.poll(cx).is_pending())).await);
            assert_eq!(taken.get(), 2, "the stream has not been opened: one is with h2, one waits");
        }
    }
}
