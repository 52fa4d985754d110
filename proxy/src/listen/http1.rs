//! HTTP/1.1 on one connection.
//!
//! Most connections of an application are silent most of the time. One that has said nothing for a moment since its last
//! answer is put to *rest*: buffers and parsers, some fifteen KiB, are given back, and only its socket waits for the next
//! request.
//!
//! While the process drains, a connection is not closed under a client that may just be sending: its next response says
//! `Connection: close`, and a silent one is closed at the end.

use super::{
    http::{Answer, MAX_HEADER_BYTES},
    io::{Busy, Served},
};
use crate::{drain, request::MAX_HEADERS, upstream::Io};
use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// So often a connection of a process that drains is looked at: whether it is silent, and has been kept long enough.
const LINGER: Duration = Duration::from_secs(2);
/// A connection that has been silent from one of these ticks to the next is put to rest.
const TICK: Duration = Duration::from_secs(1);
/// Connections of one data thread that may be silent and yet awake: beyond, they rest as soon as they are silent.
const AWAKE: usize = 256;

/// What is left of a connection that goes on.
pub(super) struct Left {
    pub(super) io: Io,
    /// What has been read of the next request.
    pub(super) first: Vec<u8>,
}

/// Serves a connection to its end (`None`), or until it may rest.
pub(super) async fn serve<A: Answer>(
    io: Served,
    busy: Arc<Busy>,
    answer: A,
    drain: drain::Watch,
) -> hyper::Result<Option<Left>> {
    let _awake = Awake::begin();
    let (counting, draining) = (busy.clone(), drain.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let under = counting.begin();
        let (answer, draining) = (answer.clone(), draining.clone());
        let upgrade = request.extensions().get::<OnUpgrade>().is_some();
        if upgrade {
            counting.ask_upgrade();
        }
        async move {
            if upgrade {
                // The connection is made ready for it before anybody answers.
                tokio::task::yield_now().await;
            }
            let mut response = answer.answer(request).await;
            if draining.is_draining() && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            under.until_end_of(&mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // `Served` has a clock of its own, which costs nothing where headers come in one piece.
        .header_read_timeout(None)
        .half_close(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES as usize)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let (mut begin, mut timer) = (drain.clone(), pin!(tokio::time::sleep(TICK)));
    let begin = pin!(async move { begin.begun().await });
    let (is_woken, is_draining) = (false, false);
    let mut pace =
        Pace { busy: &busy, drain: &drain, begin, timer: timer.as_mut(), is_woken, draining: is_draining, seen: 0 };
    loop {
        match poll_fn(|cx| pace.poll(cx, &mut connection)).await {
            Next::Over(result) => return result.map(|()| None),
            Next::Close => Pin::new(&mut connection).graceful_shutdown(),
            Next::Upgrade => break,
            Next::Rest => {
                busy.rest(true);
                Pin::new(&mut connection).graceful_shutdown();
                if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx))).await {
                    return result.map(|()| Some(left(connection.into_parts())));
                }
                // It was about to do something after all: then it does, and ends.
                busy.rest(false);
            }
        }
    }
    let mut connection = connection.with_upgrades();
    loop {
        match poll_fn(|cx| pace.poll(cx, &mut connection)).await {
            Next::Over(result) => return result.map(|()| None),
            Next::Close => Pin::new(&mut connection).graceful_shutdown(),
            Next::Rest | Next::Upgrade => {}
        }
    }
}

fn left<S>(parts: http1::Parts<TokioIo<Served>, S>) -> Left {
    let (io, mut first) = parts.io.into_inner().into_parts();
    first.splice(..0, parts.read_buf);
    Left { io, first }
}

/// Waits until a connection at rest says something. `false`: the process drains, and it had its time.
pub(super) async fn rest(io: &Io, mut drain: drain::Watch) -> bool {
    tokio::select! {
        _ = io.readable() => return true,
        () = drain.begun() => {}
    }
    let silent = async {
        tokio::select! {
            biased;
            _ = io.readable() => true,
            () = drain.out_of_patience() => false,
        }
    };
    // In a box: it is rare, and all who rest would keep room for it.
    Box::pin(silent).await
}

/// What is to be done with a connection.
enum Next {
    Over(hyper::Result<()>),
    /// A request asked to change the protocol.
    Upgrade,
    /// It is silent, and may rest.
    Rest,
    /// It is silent, and the process drains.
    Close,
}

/// Looks after a connection while it is polled.
struct Pace<'a> {
    busy: &'a Busy,
    drain: &'a drain::Watch,
    /// Ready when the drain begins; polled once, to be woken.
    begin: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
    timer: Pin<&'a mut Sleep>,
    is_woken: bool,
    draining: bool,
    /// Requests that had begun at the last tick.
    seen: usize,
}

impl Pace<'_> {
    /// Polls the connection, and only when it waits looks at the rest, by flags: most polls carry a request.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    ) -> Poll<Next> {
        if let Poll::Ready(result) = Pin::new(connection).poll(cx) {
            return Poll::Ready(Next::Over(result));
        }
        if self.busy.take_upgrade() {
            return Poll::Ready(Next::Upgrade);
        }
        if !self.draining && Awake::are_many() && self.busy.may_rest() {
            return Poll::Ready(Next::Rest);
        }
        if !std::mem::replace(&mut self.is_woken, true) {
            // One task polls this to its end, so what wakes it once need not be told again.
            let _ = (self.begin.as_mut().poll(cx), self.timer.as_mut().poll(cx));
        }
        if !self.draining && self.drain.is_draining() {
            self.draining = true;
            self.timer.as_mut().reset(Instant::now() + LINGER);
            let _ = self.timer.as_mut().poll(cx);
        }
        while self.timer.is_elapsed() {
            let next = if self.draining { self.linger() } else { self.tick() };
            let _ = self.timer.as_mut().poll(cx);
            if let Some(next) = next {
                return Poll::Ready(next);
            }
        }
        Poll::Pending
    }

    fn linger(&mut self) -> Option<Next> {
        self.timer.as_mut().reset(Instant::now() + LINGER);
        (self.busy.is_idle() && self.drain.patience().is_zero()).then_some(Next::Close)
    }

    fn tick(&mut self) -> Option<Next> {
        self.timer.as_mut().reset(Instant::now() + TICK);
        let before = std::mem::replace(&mut self.seen, self.busy.begun());
        (before == self.seen && self.busy.may_rest()).then_some(Next::Rest)
    }
}

thread_local! {
    static SERVED: Cell<usize> = const { Cell::new(0) };
}

/// Counts the connections that this data thread serves and that are not at rest.
struct Awake;

impl Awake {
    fn begin() -> Self {
        SERVED.set(SERVED.get() + 1);
        Self
    }

    fn are_many() -> bool {
        SERVED.get() > AWAKE
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        SERVED.set(SERVED.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
