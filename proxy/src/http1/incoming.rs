//! What a message leaves behind for others: its body ([`Incoming`]), the way back for interim responses ([`Interim`]), and
//! the connection itself when it changes its protocol ([`Takeover`]).

use super::{Length, Shared, Spelling, write};
use crate::io::{Io, write_through};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::oneshot,
};

/// A body that is read from a connection as it is asked for.
pub struct Incoming {
    conn: Shared,
    turn: u32,
    length: Length,
}

impl Incoming {
    /// The body of the message whose head has just been read.
    pub fn new(conn: Shared, length: Length) -> Self {
        let turn = conn.lock().turn;
        Self { conn, turn, length }
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.length.is_empty() {
            return Poll::Ready(None);
        }
        let mut conn = self.conn.lock();
        if conn.turn != self.turn {
            return Poll::Ready(Some(Err(io::Error::other("the message is over"))));
        }
        conn.poll_body(cx)
    }

    /// Whether all of it has been read.
    pub fn is_end_stream(&self) -> bool {
        self.length.is_empty() || {
            let conn = self.conn.lock();
            conn.turn == self.turn && conn.is_read()
        }
    }

    /// What is left of it.
    pub fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::Exact(0) => SizeHint::with_exact(0),
            Length::Exact(_) => self.conn.lock().left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Length::Chunked | Length::UntilClose => SizeHint::default(),
        }
    }

    /// The way for interim responses to whoever sent this.
    pub fn interim(&self) -> Interim {
        Interim { conn: self.conn.clone(), turn: self.turn }
    }

    /// Asks for the connection, once the response that changes its protocol has been sent.
    pub fn takeover(&self) -> Takeover {
        let (sender, receiver) = oneshot::channel();
        self.conn.lock().takeover = Some(sender);
        Takeover(receiver)
    }

    /// The connection, whose peer has just changed its protocol.
    pub fn take_over(self) -> Option<Taken> {
        self.conn.lock().take_over()
    }
}

/// Interim responses (RFC 9110 §15.2) to one request.
#[derive(Clone)]
pub struct Interim {
    conn: Shared,
    turn: u32,
}

impl Interim {
    /// Passes one on, if the client may still get it. It leaves when the client's connection is next looked after, which
    /// is at the end of this turn of its task.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap, spelling: Option<&Spelling>) {
        let mut conn = self.conn.lock();
        let wanted = conn.turn == self.turn && conn.interim;
        if status == StatusCode::CONTINUE && !std::mem::take(&mut conn.continues) || !wanted {
            // RFC 9110 §10.1.1: it was not asked for, or has been said.
            return;
        }
        write::interim(conn.out.buffer(), status, headers, spelling);
    }
}

/// A connection that is to come.
pub struct Takeover(oneshot::Receiver<Taken>);

impl Takeover {
    /// Waits for it; `None`: the protocol was not changed.
    pub async fn taken(self) -> Option<Taken> {
        self.0.await.ok()
    }
}

/// A connection that goes on as bytes. What had been read of it comes first.
pub struct Taken {
    /// The connection.
    pub io: Io,
    /// What had been read.
    pub first: Bytes,
}

impl AsyncRead for Taken {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let n = this.first.len().min(buf.remaining());
        buf.put_slice(&this.first.split_to(n));
        Poll::Ready(Ok(()))
    }
}

write_through!([] Taken, io);
