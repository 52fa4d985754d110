//! Peers that have fallen silent: a connection notes when something was read, asks a peer that says nothing whether it is
//! there, and ends where nobody answers, or nobody has used it for long.

use crate::{alarm::Alarm, io::write_through};
use h2::{Ping, PingPong};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

/// How long a peer may say nothing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After so long it is asked whether it is there.
    pub silence: Duration,
    /// It has so long to answer.
    pub patience: Duration,
    /// A connection without streams ends after so long; `None`: it is asked like any other.
    pub idle: Option<Duration>,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The peer does not answer.
    Gone,
    /// Nobody has used it for long.
    Unused,
}

/// When something was last read from a connection.
#[derive(Debug, Clone)]
struct Last {
    opened: Instant,
    /// In milliseconds since then.
    read: Arc<AtomicU64>,
}

/// Watches one connection.
#[derive(Debug)]
pub struct Silence {
    last: Last,
    limits: Limits,
    /// When the peer was asked whether it is there, while it has not answered.
    asked: Option<Instant>,
    alarm: Option<(Instant, Alarm)>,
}

impl Silence {
    /// Of a connection that has just been opened over `io`.
    pub fn of<IO>(io: IO, limits: Limits) -> (Heard<IO>, Self) {
        let last = Last { opened: Instant::now(), read: Arc::default() };
        (Heard { io, last: last.clone() }, Self { last, limits, asked: None, alarm: None })
    }

    /// Ready when the connection is to end. `busy`: it has streams.
    pub fn poll(&mut self, busy: bool, pings: &mut PingPong, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.asked.is_some() && pings.poll_pong(cx).is_ready() {
            self.asked = None;
        }
        loop {
            let heard = self.last.opened + Duration::from_millis(self.last.read.load(Relaxed));
            let idle = self.limits.idle.filter(|_| !busy);
            let at = match self.asked {
                Some(asked) => asked + self.limits.patience,
                None => heard + idle.unwrap_or(self.limits.silence),
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
            ready!(alarm.poll(cx));
            self.alarm = None;
            let now = Instant::now();
            if now < at {
                continue;
            }
            match self.asked {
                Some(_) => return Poll::Ready(Ended::Gone),
                None if idle.is_some() => return Poll::Ready(Ended::Unused),
                None => {
                    // It fails when one is under way, which is as good.
                    let _ = pings.send_ping(Ping::opaque());
                    self.asked = Some(now);
                    if pings.poll_pong(cx).is_ready() {
                        self.asked = None;
                    }
                }
            }
        }
    }
}

/// A connection that notes when something was read.
pub struct Heard<IO> {
    io: IO,
    last: Last,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if polled.is_ready() {
            this.last.read.store(this.last.opened.elapsed().as_millis() as u64, Relaxed);
        }
        polled
    }
}

write_through!([<IO: tokio::io::AsyncWrite + Unpin>] Heard<IO>, io);
