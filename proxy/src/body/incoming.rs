//! A body as it comes over a connection, whoever speaks the protocol of that connection, and the connection itself where
//! its protocol is about to change.

use super::{BoxError, patient::Patient};
use crate::{
    http1::{self, Spelling},
    http2,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body that comes over a connection.
pub enum Incoming {
    /// Over a connection of HTTP/1.
    Http1(http1::Incoming),
    /// Over a stream of an HTTP/2 connection.
    Http2(http2::Incoming),
    /// None: the stream goes on as bytes once its `CONNECT` has been answered.
    Connect(Option<Box<http2::Takeover>>),
    /// Any of them, given up when it stands still.
    Patient(Box<Patient>),
}

impl From<http2::Incoming> for Incoming {
    fn from(body: http2::Incoming) -> Self {
        Self::Http2(body)
    }
}

impl Incoming {
    /// The way back for interim responses to the request whose body this is.
    pub fn interim(&self) -> Option<Interim> {
        match self {
            Self::Http1(b) => Some(Interim::Http1(b.interim())),
            Self::Http2(b) => b.interim().map(Interim::Http2),
            Self::Connect(_) => None,
            Self::Patient(b) => b.body().interim(),
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(b) => b.poll_frame(cx).map_err(Into::into),
            Self::Http2(b) => b.poll_frame(cx).map_err(Into::into),
            Self::Connect(_) => Poll::Ready(None),
            Self::Patient(b) => b.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(b) => b.is_end_stream(),
            Self::Http2(b) => b.is_end_stream(),
            Self::Connect(_) => true,
            Self::Patient(b) => b.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(b) => b.size_hint(),
            Self::Http2(b) => b.size_hint(),
            Self::Connect(_) => SizeHint::with_exact(0),
            Self::Patient(b) => b.size_hint(),
        }
    }
}

/// Passes interim responses (RFC 9110 §15.2) on to a client.
#[derive(Clone)]
pub enum Interim {
    /// Over a connection of HTTP/1.
    Http1(http1::Interim),
    /// Over a stream of an HTTP/2 connection.
    Http2(http2::Interim),
}

impl Interim {
    /// Passes one on, if the client may still get it. `spelling`: its head as it was written, where it came over HTTP/1.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap, spelling: Option<&Spelling>) {
        match self {
            Self::Http1(client) => client.send(status, headers, spelling),
            Self::Http2(client) => client.send(status, headers),
        }
    }
}
