//! One type for both kinds of connection, so that what stands on it is compiled once.
//!
//! A write that makes no progress for [`WRITE_STALL`] fails: a peer that never reads may not hold a connection, and what
//! hangs on it, for ever.

mod ahead;
mod pieces;
mod through;

pub use ahead::Ahead;
pub(crate) use through::write_through;

use crate::{
    tls::{ClientStream, ServerStream},
    turns::Haul,
};
use rustls::CommonState;
use socket2::{SockRef, TcpKeepalive};
use std::{
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// How long a write may wait for a peer that does not read.
pub const WRITE_STALL: Duration = Duration::from_secs(60);

/// How long a connection is silent before it is probed, and between probes: less than what remembers connections on the
/// way does (some, four minutes).
const KEPT: Duration = Duration::from_secs(60);

/// So many bytes wait in the kernel for a peer that does not read, besides what is on its way. Left to itself it takes two to
/// four MiB, which a sidecar has read, decrypted, encrypted and written for nobody.
const UNSENT: u32 = 64 * 1024;

/// Has small writes leave at once, and large ones wait here while the peer does not read. Of a listening socket: those that
/// are accepted on it are like it.
pub(crate) fn unbuffered(socket: SockRef<'_>) {
    if let Err(error) = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_notsent_lowat(UNSENT)) {
        tracing::debug!(%error, "a connection is as the kernel makes it");
    }
}

/// A peer that may be gone without a word, since it is on another machine, is probed: a stream may be silent for a day.
pub(crate) fn probed(tcp: &TcpStream, peer: IpAddr) {
    if !peer.to_canonical().is_loopback() {
        probe(SockRef::from(tcp), KEPT);
    }
}

fn probe(socket: SockRef<'_>, interval: Duration) {
    let keepalive = TcpKeepalive::new().with_time(interval).with_interval(interval).with_retries(3);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a connection is not probed");
    }
}

/// A connection, plain or TLS.
pub struct Io {
    wire: Wire,
    stall: Option<Pin<Box<Sleep>>>,
    stall_after: Duration,
    haul: Haul,
    /// What comes behind the bytes that TLS had.
    failed: Option<io::Error>,
}

enum Wire {
    Plain(TcpStream),
    Client(Box<ClientStream<Ahead>>),
    Server(Box<ServerStream<Ahead>>),
}

impl Io {
    fn on(wire: Wire) -> Self {
        Self { wire, stall: None, stall_after: WRITE_STALL, haul: Haul::default(), failed: None }
    }

    /// Plain TCP.
    pub fn plain(tcp: TcpStream) -> Self {
        Self::on(Wire::Plain(tcp))
    }

    /// TLS that we began.
    pub fn client(tls: ClientStream<Ahead>) -> Self {
        Self::on(Wire::Client(Box::new(tls)))
    }

    /// TLS that the peer began.
    pub fn server(tls: ServerStream<Ahead>) -> Self {
        Self::on(Wire::Server(Box::new(tls)))
    }

    /// Whether it is plain TCP.
    pub fn is_plain(&self) -> bool {
        matches!(self.wire, Wire::Plain(_))
    }

    /// Ends it with a reset, so that the peer sees a fault and no end.
    pub fn reset(self) {
        if let Wire::Plain(tcp) = &self.wire {
            let _ = tcp.set_zero_linger();
        }
    }

    /// Pending: there is nothing to be read, and the task is woken when there is. Costs a third of a read that finds
    /// nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let tcp = match &self.wire {
            Wire::Plain(tcp) => tcp,
            _ if self.failed.is_some() => return Poll::Ready(()),
            // The TLS library wants nothing more while it holds what nobody has read.
            Wire::Client(tls) if tls.get_ref().1.wants_read() && tls.get_ref().0.is_empty() => tls.get_ref().0.tcp(),
            Wire::Server(tls) if tls.get_ref().1.wants_read() && tls.get_ref().0.is_empty() => tls.get_ref().0.tcp(),
            Wire::Client(_) | Wire::Server(_) => return Poll::Ready(()),
        };
        tcp.poll_read_ready(cx).map(|_| ())
    }

    /// A message has been read to its end: the next need not wait for its turn, however much that one was.
    pub fn rest(&mut self) {
        self.haul.end();
    }

    /// How many bytes the kernel has taken of what TLS was given, which keeps some; of plain TCP, where what a write says is
    /// what the kernel has taken, always 0.
    pub fn written(&self) -> u64 {
        match &self.wire {
            Wire::Plain(_) => 0,
            Wire::Client(tls) => tls.get_ref().0.written(),
            Wire::Server(tls) => tls.get_ref().0.written(),
        }
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(match &self.wire {
            Wire::Plain(tcp) => tcp,
            Wire::Client(tls) => tls.get_ref().0.tcp(),
            Wire::Server(tls) => tls.get_ref().0.tcp(),
        })
    }

    /// Keeps it as what carries bytes has to be kept, which may be silent for long: what stands between (address
    /// translation, firewalls) does not forget it, and a peer that is gone without a word is found out within four minutes.
    /// The application's own keep-alive goes no further than the sidecar.
    pub fn keep(&self) {
        self.probe(KEPT);
    }

    /// Has the kernel ask the peer's, each `interval` of silence, whether it still knows the connection.
    pub fn probe(&self, interval: Duration) {
        probe(self.socket(), interval);
    }

    /// How the connection has failed, if it has.
    pub fn failure(&self) -> Option<io::Error> {
        self.socket().take_error().ok().flatten()
    }

    /// Whether the kernel holds nothing that the peer has sent, not even its end. Asks the kernel, not the runtime.
    pub fn is_quiet(&self) -> bool {
        let peeked = self.socket().peek(&mut [const { MaybeUninit::uninit() }; 1]);
        peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Returns when the peer has sent something, or the end. Holds no memory meanwhile. To be called when a read has found
    /// nothing: TLS may hold what came before.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.wire {
            Wire::Plain(tcp) => tcp.readable().await,
            Wire::Client(tls) => tls.get_ref().0.tcp().readable().await,
            Wire::Server(tls) => tls.get_ref().0.tcp().readable().await,
        }
    }

    fn stalled<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stall = None;
            return polled;
        }
        let after = self.stall_after;
        let sleep = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + after)));
        ready!(sleep.as_mut().poll(cx));
        self.stall = None;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

macro_rules! on_wire {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.wire {
            Wire::Plain($io) => $call,
            Wire::Client($io) => $call,
            Wire::Server($io) => $call,
        }
    };
}

/// Whether neither TLS nor the socket has more to be read, as far as is known without a look.
fn dry(ahead: &Ahead, tls: &CommonState) -> bool {
    tls.wants_read() && ahead.is_dry()
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.haul.poll(cx));
        let before = buf.filled().len();
        let polled = match &mut this.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Wire::Client(tls) => {
                pieces::poll_read(Pin::new(tls), |tls| dry(tls.get_ref().0, tls.get_ref().1), &mut this.failed, cx, buf)
            }
            Wire::Server(tls) => {
                pieces::poll_read(Pin::new(tls), |tls| dry(tls.get_ref().0, tls.get_ref().1), &mut this.failed, cx, buf)
            }
        };
        this.haul.read(buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Wire::Client(tls) => pieces::poll_write(Pin::new(tls), cx, buf),
            Wire::Server(tls) => pieces::poll_write(Pin::new(tls), cx, buf),
        };
        this.stalled(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Wire::Client(tls) => pieces::poll_write_vectored(Pin::new(tls), cx, bufs),
            Wire::Server(tls) => pieces::poll_write_vectored(Pin::new(tls), cx, bufs),
        };
        this.stalled(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(io) => io.is_write_vectored(),
            Wire::Client(io) => io.is_write_vectored(),
            Wire::Server(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = on_wire!(this, io => Pin::new(io).poll_flush(cx));
        this.stalled(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = on_wire!(this, io => Pin::new(io).poll_shutdown(cx));
        this.stalled(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_on_another_machine_is_probed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (peer, probed) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
        ] {
            let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = SockRef::from(&tcp);
            unbuffered(SockRef::from(&tcp));
            super::probed(&tcp, peer.parse().unwrap());
            assert_eq!((socket.tcp_nodelay().unwrap(), socket.keepalive().unwrap()), (true, probed), "{peer}");
            assert!(!probed || socket.tcp_keepalive_time().unwrap() == KEPT);
        }
    }
}
