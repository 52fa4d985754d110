//! The task of a connection: it reads and writes, asks a peer that is silent whether it is there, and ends a connection
//! that nobody has used for long.

use super::{Connection, State};
use crate::{
    error::{Kind, Result},
    http2::{Heard, Limits, Silence},
    upstream::{Io, connect::Alive},
};
use bytes::Bytes;
use h2::{PingPong, client};
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
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
    let (io, silence) = Silence::of(io, Limits { silence: SILENCE, patience: PATIENCE, idle: Some(idle_timeout) });
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
    let (h2, mut connection) = builder.handshake(io).await.map_err(|e| Kind::ConnectFailed.because(e))?;
    let Some(pings) = connection.ping_pong() else { return Err(Kind::Internal.detail("no pings")) };
    let task = Task { h2: connection, pings, silence, state: state.clone(), address };
    let alive = alive();
    tokio::spawn(async move {
        let _alive = alive;
        task.await;
    });
    Ok(Connection { h2, state })
}

struct Task {
    h2: client::Connection<Heard<Io>, Bytes>,
    pings: PingPong,
    silence: Silence,
    state: Arc<State>,
    address: SocketAddr,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match Pin::new(&mut this.h2).poll(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => tracing::debug!(address = %this.address, %error, "upstream connection ended"),
            Poll::Pending => {
                let busy = this.state.streams.load(Relaxed) > 0;
                let why = std::task::ready!(this.silence.poll(busy, &mut this.pings, cx));
                tracing::debug!(address = %this.address, ?why, "upstream connection is ended");
            }
        }
        this.state.closed.store(true, Relaxed);
        Poll::Ready(())
    }
}
