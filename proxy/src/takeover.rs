//! A client's connection that goes on as something else: after `101 Switching Protocols`, or an answer to `CONNECT`.

use crate::{body::Incoming, http1, http2};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection (or the stream, in HTTP/2), once the response has been sent.
pub enum Takeover {
    /// A whole connection.
    Http1(http1::Takeover),
    /// A stream of an HTTP/2 connection. `None`: the request did not ask for one.
    Http2(Option<Box<http2::Takeover>>),
}

impl Takeover {
    /// Of the connection that a request came over.
    pub fn of(request: &mut http::Request<Incoming>) -> Self {
        match request.body_mut() {
            Incoming::Http1(body) => Self::Http1(body.takeover()),
            Incoming::Connect(stream) => Self::Http2(stream.take()),
            Incoming::Http2(_) | Incoming::Patient(_) => Self::Http2(None),
        }
    }

    /// Waits for it; `None`: it did not come about.
    pub async fn taken(self) -> Option<Bytewise> {
        match self {
            Self::Http1(waiting) => waiting.taken().await.map(Bytewise::Whole),
            Self::Http2(waiting) => waiting?.taken().await.map(Bytewise::Stream),
        }
    }
}

/// What is carried as bytes from now on.
pub enum Bytewise {
    /// A whole connection.
    Whole(http1::Taken),
    /// A stream of one.
    Stream(http2::Taken),
}

macro_rules! on_either {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Whole($io) => $call,
            Self::Stream($io) => $call,
        }
    };
}

impl AsyncRead for Bytewise {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_either!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Bytewise {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_either!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
