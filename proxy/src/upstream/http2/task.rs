//! The task of a connection: it reads and writes, asks a peer that is silent whether it is there, and ends a connection
//! that nobody has used for long.

use super::{Connection, State};
use crate::{
    alarm::Alarm,
    error::{Kind, Result},
    upstream::{Io, connect::Alive},
};
use bytes::Bytes;
use h2::{Ping, PingPong, client};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// A peer that has streams and says nothing for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(20);
/// It has so long to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Streams before the peer has said how many it takes (RFC 9113 §6.5.2 recommends no less).
const STREAMS_AT_FIRST: usize = 100;

/// Windows of the connections that are opened.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Windows {
    /// One stream's, in bytes.
    pub stream: u32,
    /// A whole connection's.
    pub connection: u32,
}

/// Shakes hands over `io` and starts the task, which holds `alive`.
pub(in crate::upstream) async fn open(
    io: Io,
    address: SocketAddr,
    windows: Windows,
    idle_timeout: Duration,
    alive: impl FnOnce() -> Alive,
) -> Result<Connection> {
    let state = Arc::new(State::default());
    let opened = Instant::now();
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .initial_max_send_streams(STREAMS_AT_FIRST)
        .max_frame_size(64 * 1024)
        .max_header_list_size(128 * 1024)
        .max_send_buffer_size(256 * 1024)
        // Cancellations of ours are not the peer's misbehaviour: none of them may end the connection.
        .max_concurrent_reset_streams(1024)
        .enable_push(false);
    let io = Heard { io, opened, state: state.clone() };
    let (h2, mut connection) = builder.handshake(io).await.map_err(|e| Kind::ConnectFailed.because(e))?;
    let Some(pings) = connection.ping_pong() else { return Err(Kind::Internal.detail("no pings")) };
    let task =
        Task { h2: connection, pings, asked: None, alarm: None, state: state.clone(), opened, idle_timeout, address };
    let alive = alive();
    tokio::spawn(async move {
        let _alive = alive;
        task.await;
    });
    Ok(Connection { h2, state })
}

struct Task {
    h2: client::Connection<Heard, Bytes>,
    pings: PingPong,
    /// When the peer was asked whether it is there, while it has not answered.
    asked: Option<Instant>,
    alarm: Option<(Instant, Alarm)>,
    state: Arc<State>,
    opened: Instant,
    idle_timeout: Duration,
    address: SocketAddr,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let over = match Pin::new(&mut this.h2).poll(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                tracing::debug!(address = %this.address, %error, "upstream connection ended");
                true
            }
            Poll::Pending => this.poll_silence(cx).is_ready(),
        };
        if !over {
            return Poll::Pending;
        }
        this.state.closed.store(true, Relaxed);
        Poll::Ready(())
    }
}

impl Task {
    /// Ready when the connection is to end: the peer is gone, or nobody needs it.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.asked.is_some() && self.pings.poll_pong(cx).is_ready() {
            self.asked = None;
        }
        loop {
            let heard = self.opened + Duration::from_millis(self.state.heard.load(Relaxed));
            let busy = self.state.streams.load(Relaxed) > 0;
            let at = match self.asked {
                Some(asked) => asked + PATIENCE,
                None if busy => heard + SILENCE,
                None => heard + self.idle_timeout,
            };
            // Later than it has to be is put right when it goes off: it is not moved on every request.
            let alarm = match &mut self.alarm {
                Some((set, alarm)) => {
                    if at < *set {
                        alarm.reset(at);
                        *set = at;
                    }
                    alarm
                }
                None => &mut self.alarm.insert((at, Alarm::new(at))).1,
            };
            std::task::ready!(alarm.poll(cx));
            self.alarm = None;
            let now = Instant::now();
            if now < at {
                continue;
            }
            match self.asked {
                Some(_) => {
                    tracing::debug!(address = %self.address, "upstream connection does not answer");
                    return Poll::Ready(());
                }
                None if busy => {
                    // It fails when one is under way, which is as good.
                    let _ = self.pings.send_ping(Ping::opaque());
                    self.asked = Some(now);
                    if self.pings.poll_pong(cx).is_ready() {
                        self.asked = None;
                    }
                }
                None => return Poll::Ready(()),
            }
        }
    }
}

/// A connection that notes when something was read.
struct Heard {
    io: Io,
    opened: Instant,
    state: Arc<State>,
}

impl AsyncRead for Heard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if polled.is_ready() {
            this.state.heard.store(this.opened.elapsed().as_millis() as u64, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
