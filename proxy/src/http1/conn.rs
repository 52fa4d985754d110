//! A connection and the message that is read from it: buffers that are there only while something is in them, and the
//! place in the body.
//!
//! It is shared ([`Shared`]) between whoever serves it and the body that is read from it; both live on one data thread,
//! and nobody holds it while they wait.

use super::{
    chunked::{Decoder, Piece},
    framing::Length,
    head::{self, Fault, RequestHead, ResponseHead},
    incoming::Taken,
    outbox::Outbox,
};
use crate::{alarm::Alarm, io::Io};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use parking_lot::Mutex;
use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::Instant,
};

/// A connection that several hold.
pub type Shared = Arc<Mutex<Conn>>;

/// Read at once while a head is awaited: no memory is kept for what has not come.
const SCRATCH: usize = 4 * 1024;
/// Read at once of a body, at first, and at most when it comes fast.
const READ: (usize, usize) = (8 * 1024, 64 * 1024);
/// A client that has asked may say so much more before it is answered; then it has to wait.
const AHEAD: usize = 8 * 1024;

/// How often the kernel of a peer that has ended its side is asked whether it still knows the connection.
const PROBE: Duration = Duration::from_secs(15);

/// Why there is no head.
#[derive(Debug)]
pub enum HeadError {
    /// What came is none.
    Fault(Fault),
    /// The connection ended: in the middle of it, or before it.
    Closed,
    /// The connection broke.
    Io(io::Error),
}

impl From<Fault> for HeadError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// How far the body of the present message has been read.
#[derive(Debug)]
enum Reader {
    Exact(u64),
    Chunked(Decoder),
    UntilClose,
    /// It broke off, or broke the rules: nothing behind it can be believed.
    Broken,
}

/// A connection that speaks HTTP/1.
pub struct Conn {
    io: Option<Io>,
    read: BytesMut,
    /// How far the head that is coming has been looked through.
    scanned: usize,
    reader: Reader,
    /// What is read at once.
    stride: usize,
    /// The peer has said all that it will say.
    ended: bool,
    /// When it is looked whether such a peer is still there.
    look: Option<Box<Alarm>>,
    /// What is to be written.
    pub out: Outbox,
    /// A byte of the message that is being written has left.
    pub sent: bool,
    /// Counts messages, so that the body of an earlier one reads nothing of a later one.
    pub(super) turn: u32,
    /// Whether an interim response may be written now.
    pub(super) interim: bool,
    /// Whether the client still waits for `100 Continue`.
    pub(super) continues: bool,
    pub(super) takeover: Option<oneshot::Sender<Taken>>,
}

impl Conn {
    /// Room for a connection that is to come. Made when it is accepted, it lies among what stays; made at its first
    /// request, it would lie among what that needs for a moment, and hold on to all the memory around it.
    pub fn vacant() -> Self {
        Self {
            io: None,
            read: BytesMut::new(),
            scanned: 0,
            reader: Reader::Exact(0),
            stride: READ.0,
            ended: false,
            look: None,
            out: Outbox::default(),
            sent: false,
            turn: 0,
            interim: false,
            continues: false,
            takeover: None,
        }
    }

    /// A connection of which `first` has been read already.
    pub fn new(io: Io, first: &[u8]) -> Self {
        let mut conn = Self::vacant();
        conn.move_in(io, first);
        conn
    }

    /// The connection is there; `first` has been read of it already.
    pub fn move_in(&mut self, io: Io, first: &[u8]) {
        self.io = Some(io);
        self.read = first.into();
    }

    /// To be shared with the bodies of its messages.
    pub fn shared(self) -> Shared {
        Arc::new(Mutex::new(self))
    }

    /// The next request; `None`: more must come.
    pub fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestHead, HeadError>> {
        loop {
            if let Some(head) = head::request(&mut self.read, &mut self.scanned)? {
                self.begin(head.length);
                self.interim = head.parts.version >= http::Version::HTTP_11;
                self.continues = head.expects_continue;
                return Poll::Ready(Ok(head));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// The response to a request of method `HEAD` or another.
    pub fn poll_response(&mut self, to_head: bool, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, HeadError>> {
        loop {
            if let Some(head) = head::response(&mut self.read, &mut self.scanned, to_head)? {
                self.begin(head.length);
                return Poll::Ready(Ok(head));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    fn begin(&mut self, length: Length) {
        self.turn = self.turn.wrapping_add(1);
        self.takeover = None;
        self.reader = match length {
            Length::Exact(n) => Reader::Exact(n),
            Length::Chunked => Reader::Chunked(Decoder::default()),
            Length::UntilClose => Reader::UntilClose,
        };
        if self.read.is_empty() {
            // The head has it now.
            self.read = BytesMut::new();
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HeadError>> {
        if self.ended {
            return Poll::Ready(Err(HeadError::Closed));
        }
        // What comes now is a new message's beginning, however much the last one was.
        self.io.iter_mut().for_each(Io::rest);
        match ready!(self.poll_scratch(cx)) {
            Ok(0) => {
                self.ended = true;
                Poll::Ready(Err(HeadError::Closed))
            }
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(HeadError::Io(error))),
        }
    }

    /// Reads into the stack and keeps what came.
    fn poll_scratch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(0)) };
        ready!(io.poll_readable(cx));
        let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH];
        let mut buf = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(io).poll_read(cx, &mut buf))?;
        self.read.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// The next piece of the present message's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.poll_piece(cx);
        if let Poll::Ready(Some(Err(_))) = polled {
            self.reader = Reader::Broken;
        }
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match &mut self.reader {
                Reader::Exact(0) => return Poll::Ready(None),
                Reader::Exact(left) if !self.read.is_empty() => {
                    let n = self.read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    return Poll::Ready(Some(Ok(Frame::data(self.read.split_to(n).freeze()))));
                }
                Reader::UntilClose if !self.read.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(self.read.split().freeze()))));
                }
                Reader::UntilClose if self.ended => {
                    self.reader = Reader::Exact(0);
                    return Poll::Ready(None);
                }
                Reader::Chunked(decoder) if decoder.is_done() => return Poll::Ready(None),
                Reader::Chunked(decoder) => match decoder.next(&mut self.read) {
                    Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Some(Piece::End(trailers))) => {
                        return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
                    }
                    Ok(None) => {}
                    Err(why) => {
                        return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::InvalidData, why))));
                    }
                },
                Reader::Broken => return Poll::Ready(Some(Err(cut()))),
                Reader::Exact(_) | Reader::UntilClose => {}
            }
            if let Err(error) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Reads more of a body.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until_close = matches!(self.reader, Reader::UntilClose);
        let Some(io) = self.io.as_mut().filter(|_| !self.ended) else {
            return Poll::Ready(if until_close { Ok(()) } else { Err(cut()) });
        };
        let stride = match self.reader {
            Reader::Exact(left) => self.stride.min(usize::try_from(left).unwrap_or(usize::MAX)).max(1),
            _ => self.stride,
        };
        self.read.reserve(stride);
        let n = ready!(pin!(io.read_buf(&mut self.read)).poll(cx))?;
        if n >= self.stride {
            self.stride = (self.stride * 2).min(READ.1);
        }
        if n == 0 {
            self.ended = true;
            if !until_close {
                return Poll::Ready(Err(cut()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Looks whether the peer is still there while it waits for an answer. Ready: it is not. One that has only said all
    /// that it will say (a half-close) still is; one that has closed says the same, and its kernel is asked now and then.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while !self.ended && self.is_read() && self.read.len() < AHEAD {
            match self.poll_scratch(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
            }
        }
        if self.ended { self.poll_reset(cx) } else { Poll::Pending }
    }

    /// A program that has closed its socket leaves it to its kernel, which answers probes of the connection with a reset
    /// once it has forgotten it (tcp(7), `tcp_fin_timeout`).
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(io) = &self.io else { return Poll::Pending };
        let look = self.look.get_or_insert_with(|| {
            io.probe(PROBE);
            Box::new(Alarm::new(Instant::now() + PROBE))
        });
        while look.poll(cx).is_ready() {
            if let Some(error) = io.failure() {
                return Poll::Ready(error);
            }
            look.reset(Instant::now() + PROBE);
        }
        Poll::Pending
    }

    /// Reads whatever comes and forgets it; `None` at the end.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let buffered = self.read.len();
        self.read = BytesMut::new();
        if buffered > 0 {
            return Poll::Ready(Some(buffered));
        }
        Poll::Ready(match ready!(self.poll_scratch(cx)) {
            Ok(0) | Err(_) => None,
            Ok(n) => Some(n),
        })
    }

    /// Writes what is to be written.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => {
                let before = io.written();
                let polled = self.out.poll_write(io, &mut self.sent, cx);
                // TLS may have sent some of what it then says has failed.
                self.sent |= io.written() != before;
                polled
            }
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Says that nothing more will be said.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Closes it, whoever else still holds it. Over TLS the peer is told first that this was all; over TCP closing says so.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(io) = self.io.as_mut().filter(|io| !io.is_plain()) {
            // A peer that cannot be told is gone.
            let _ = ready!(Pin::new(io).poll_shutdown(cx));
        }
        self.io = None;
        Poll::Ready(())
    }

    /// Whether the present message has been read to its end.
    pub fn is_read(&self) -> bool {
        match &self.reader {
            Reader::Exact(left) => *left == 0,
            Reader::Chunked(decoder) => decoder.is_done(),
            Reader::UntilClose | Reader::Broken => false,
        }
    }

    /// What is left of its body, where that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.reader {
            Reader::Exact(left) => Some(*left),
            _ => None,
        }
    }

    /// Whether the kernel holds nothing that the peer has sent.
    pub fn is_quiet(&self) -> bool {
        self.io.as_ref().is_some_and(Io::is_quiet)
    }

    /// Whether some of the next message has come.
    pub fn has_more(&self) -> bool {
        !self.read.is_empty()
    }

    /// Whether the peer has said all that it will say.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Nobody is to read the present body any more, nor to send interim responses.
    pub fn close_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.interim = false;
    }

    /// The final response begins: no interim one may follow, and nobody waits to be told to go on. Whether the client did.
    pub fn end_interim(&mut self) -> bool {
        self.interim = false;
        std::mem::take(&mut self.continues)
    }

    /// Gives back memory that an idle connection does not need.
    pub fn rest(&mut self) {
        self.out.rest();
        self.io.iter_mut().for_each(Io::rest);
        self.stride = READ.0;
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
    }

    /// The connection itself, and what has been read and not been used: it goes on as something else.
    pub fn take_over(&mut self) -> Option<Taken> {
        let io = self.io.take()?;
        io.keep();
        Some(Taken { io, first: std::mem::take(&mut self.read).freeze() })
    }

    /// Hands the connection to whoever asked for it ([`super::Takeover`]).
    pub fn hand_over(&mut self) {
        let Some(waiting) = self.takeover.take() else { return };
        if let Some(taken) = self.take_over() {
            // Nobody waits any more: it is closed.
            let _ = waiting.send(taken);
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the middle of a message")
}

#[cfg(test)]
mod tests;
