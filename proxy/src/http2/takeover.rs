//! A stream that goes on as bytes: what `CONNECT` opens (RFC 9113 §8.5, RFC 8441).

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// A stream that is to come, once `CONNECT` has been answered.
pub struct Takeover {
    receive: RecvStream,
    send: oneshot::Receiver<SendStream<Bytes>>,
}

impl Takeover {
    /// Of a request: `receive` is what comes after its head, the other half comes when it has been answered.
    pub fn new(receive: RecvStream) -> (oneshot::Sender<SendStream<Bytes>>, Self) {
        let (sender, send) = oneshot::channel();
        (sender, Self { receive, send })
    }

    /// Waits for it; `None`: it did not come about.
    pub async fn taken(self) -> Option<Taken> {
        let send = self.send.await.ok()?;
        Some(Taken { receive: self.receive, send, read: Bytes::new() })
    }
}

/// A stream of bytes in both directions.
pub struct Taken {
    receive: RecvStream,
    send: SendStream<Bytes>,
    /// What came and has not been read.
    read: Bytes,
}

impl AsyncRead for Taken {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(Ok(data)) => this.read = data,
                // RFC 9113 §8.5: a peer that closes its TCP connection without more ado is told by CANCEL or NO_ERROR.
                Some(Err(e)) if matches!(e.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(e)) => return Poll::Ready(Err(io::Error::other(e))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read[..n]);
        this.read.advance(n);
        // Fails only when the stream is over, which the next read says.
        let _ = this.receive.flow_control().release_capacity(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Taken {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(buf.len());
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(e)) => return Poll::Ready(Err(io::Error::other(e))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let n = buf.len().min(this.send.capacity());
        this.send.send_data(Bytes::copy_from_slice(&buf[..n]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Fails where it is over already: then there is nothing to end.
        let _ = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
