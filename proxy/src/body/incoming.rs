//! A body as it comes over a connection, whoever speaks the protocol of that connection, and the connection itself where
//! its protocol is about to change.

use super::{BoxError, Http2, patient::Patient};
use crate::http1::{self, Interim};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body that comes over a connection.
pub enum Incoming {
    /// Over a connection of hyper's.
    Hyper(hyper::body::Incoming),
    /// Over a connection of HTTP/1.
    Http1(http1::Incoming),
    /// Over a stream of an HTTP/2 connection of our own.
    Http2(Http2),
    /// Any of them, given up when it stands still.
    Patient(Box<Patient>),
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::Hyper(body)
    }
}

impl From<Http2> for Incoming {
    fn from(body: Http2) -> Self {
        Self::Http2(body)
    }
}

impl Incoming {
    /// The way back for interim responses to the request whose body this is.
    pub fn interim(&self) -> Option<Interim> {
        match self {
            Self::Http1(b) => Some(b.interim()),
            Self::Patient(b) => b.body().interim(),
            Self::Hyper(_) | Self::Http2(_) => None,
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Hyper(b) => Pin::new(b).poll_frame(cx).map_err(Into::into),
            Self::Http1(b) => b.poll_frame(cx).map_err(Into::into),
            Self::Http2(b) => b.poll_frame(cx).map_err(Into::into),
            Self::Patient(b) => b.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(b) => b.is_end_stream(),
            Self::Http1(b) => b.is_end_stream(),
            Self::Http2(b) => b.is_end_stream(),
            Self::Patient(b) => b.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(b) => b.size_hint(),
            Self::Http1(b) => b.size_hint(),
            Self::Http2(b) => b.size_hint(),
            Self::Patient(b) => b.size_hint(),
        }
    }
}
