//! Sockets: one listening socket a data thread (`SO_REUSEPORT`), so that the kernel spreads connections over the
//! threads and each is served where it was accepted.

use crate::{
    drain::{self, Accept, Door, How},
    error::Kind,
    given_back,
    io::{probed, unbuffered},
    telemetry::Metrics,
};
use futures::FutureExt as _;
use pin_project_lite::pin_project;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

/// The kernel's queue of connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// A bound address, and a socket on it for each data thread.
#[derive(Debug)]
pub struct Bound {
    /// What was really bound, where port 0 was asked for.
    pub address: SocketAddr,
    /// Listening sockets, not yet registered with a runtime.
    pub sockets: Vec<std::net::TcpListener>,
}

/// Binds `address` for `threads` data threads.
///
/// # Errors
/// The address is in use, or may not be bound.
pub fn bind(address: SocketAddr, threads: usize) -> io::Result<Bound> {
    let first = socket(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < threads {
        sockets.push(socket(address)?);
    }
    Ok(Bound { address, sockets })
}

/// Binds a port of all IPv6 addresses, and of those alone: beside sockets of IPv4 on the same port.
///
/// # Errors
/// The port is in use, or there is no IPv6.
pub fn bind_v6(port: u16, threads: usize) -> io::Result<Bound> {
    let address = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port);
    let made = || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_only_v6(true)?;
        listening(socket, address)
    };
    Ok(Bound { address, sockets: (0..threads).map(|_| made()).collect::<io::Result<_>>()? })
}

impl Bound {
    /// From sockets that another process has bound. `None`: there are none, or they are not on `address`.
    pub fn taken(fds: Vec<OwnedFd>, address: SocketAddr) -> Option<Self> {
        let sockets: Vec<_> = fds.into_iter().map(std::net::TcpListener::from).collect();
        let bound = sockets.first()?.local_addr().ok()?;
        let fits = bound.ip() == address.ip() && (address.port() == 0 || bound.port() == address.port());
        sockets.iter().for_each(|s| unbuffered(s.into()));
        let ready = || sockets.iter().try_for_each(|s| s.set_nonblocking(true)).is_ok();
        (fits && ready()).then_some(Self { address: bound, sockets })
    }

    /// The sockets again, for whoever comes after us.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(|s| s.try_clone().map(Into::into)).collect()
    }

    /// Shares the sockets out among data threads: each has one at least, and none is left out.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn share(self, threads: usize) -> io::Result<Vec<Vec<std::net::TcpListener>>> {
        let mut shares: Vec<Vec<_>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
        // A predecessor had fewer threads: some share a socket, since a new one would divide the kernel's queue.
        for (share, socket) in shares.iter_mut().zip(self.sockets.iter().cycle()).skip(self.sockets.len()) {
            share.push(socket.try_clone()?);
        }
        for (n, socket) in self.sockets.into_iter().enumerate() {
            let thread = n % shares.len();
            shares[thread].push(socket);
        }
        Ok(shares)
    }
}

fn socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listening(Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?, address)
}

fn listening(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    unbuffered(SockRef::from(&socket));
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Open connections of one direction, over all threads, and how many there may be.
#[derive(Debug)]
pub struct Places {
    open: AtomicUsize,
    taken: AtomicUsize,
    most: usize,
}

/// One of them.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// At most `most`.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), taken: AtomicUsize::new(0), most })
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Place(self.clone()))
    }

    /// How many there have been.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        given_back::ended();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A connection in its place. (An `async` block around it would keep it twice: where it was, and where it is awaited.)
    struct Serving<F> {
        #[pin]
        connection: F,
        _place: Place,
    }
}

impl<F: Future<Output = ()>> Future for Serving<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().connection.poll(cx)
    }
}

/// What accepting on every socket has in common.
#[derive(Clone)]
pub struct Accepting {
    /// Where is counted what is turned away.
    pub metrics: Arc<Metrics>,
    /// Whether it accepts.
    pub door: watch::Receiver<Door>,
    /// The drain, which ends it, and says when.
    pub stop: drain::Watch,
    /// So many of a crowd are accepted in each turn of the runtime: what they begin with leaves room for those that are
    /// there.
    pub at_once: usize,
}

impl Accepting {
    /// Accepts on `sockets`, and serves each connection in a task of its own.
    ///
    /// # Errors
    /// A socket cannot be used with this thread's runtime.
    pub async fn run<F, S>(self, sockets: Vec<std::net::TcpListener>, places: Arc<Places>, serve: S) -> io::Result<()>
    where
        S: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let all = sockets.into_iter().map(|socket| self.clone().one(socket, &places, &serve));
        futures::future::try_join_all(all).await.map(drop)
    }

    async fn one<F, S>(mut self, socket: std::net::TcpListener, places: &Arc<Places>, serve: &S) -> io::Result<()>
    where
        S: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::from_std(socket)?;
        let how = loop {
            let open = *self.door.borrow_and_update();
            tokio::select! {
                biased;
                how = self.stop.how() => break how,
                // Whoever opens and shuts is gone: so are we.
                changed = self.door.changed() => if changed.is_err() { return Ok(()) },
                () = accept(&listener, places, &self.metrics, self.at_once, serve), if open == Door::Open => {}
            }
            if *self.door.borrow() == Door::Gone {
                return Ok(());
            }
        };
        let Some(How { accept: until, .. }) = how else { return Ok(()) };
        let accepting = accept(&listener, places, &self.metrics, self.at_once, serve);
        tokio::select! {
            () = accepting => {}
            () = is_over(until, places) => {}
            gone = self.door.wait_for(|door| *door == Door::Gone) => if gone.is_ok() { return Ok(()) },
        }
        // Who is in the queue has been told by the kernel that we are here.
        let all = async {
            loop {
                take(listener.accept().await, places, &self.metrics, serve).await;
            }
        };
        let _: Option<()> = tokio::task::unconstrained(all).now_or_never();
        Ok(())
    }
}

/// Returns when a listener that drains has accepted for long enough.
async fn is_over(until: Accept, places: &Places) {
    let quiet = match until {
        Accept::For(limit) => return tokio::time::sleep(limit).await,
        Accept::UntilQuiet(quiet) => quiet,
    };
    let (mut seen, mut since) = (places.taken(), Instant::now());
    loop {
        let taken = places.taken();
        if places.open() > 0 || taken != seen {
            (seen, since) = (taken, Instant::now());
        } else if since.elapsed() >= quiet {
            return;
        }
        tokio::time::sleep((quiet / 8).clamp(Duration::from_millis(5), Duration::from_millis(250))).await;
    }
}

/// Accepts; of a crowd, `at_once` in each turn of the runtime.
async fn accept<F, S>(listener: &TcpListener, places: &Arc<Places>, metrics: &Metrics, at_once: usize, serve: &S)
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut accepted = 0;
    loop {
        let next = poll_fn(|cx| {
            let next = listener.poll_accept(cx);
            accepted = if next.is_ready() { accepted + 1 } else { 0 };
            next
        });
        take(next.await, places, metrics, serve).await;
        if accepted >= at_once {
            accepted = 0;
            tokio::task::yield_now().await;
        }
    }
}

async fn take<F, S>(accepted: io::Result<(TcpStream, SocketAddr)>, places: &Arc<Places>, metrics: &Metrics, serve: &S)
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (tcp, peer) = match accepted {
        Ok(accepted) => accepted,
        Err(error) if is_of_one_connection(&error) => return,
        Err(error) => {
            // Out of descriptors or memory: those who wait stay in the kernel's queue.
            tracing::warn!(%error, "cannot accept");
            metrics.shed(Kind::Overload.reason());
            return tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let Some(place) = places.take() else { return metrics.shed(Kind::Overload.reason()) };
    probed(&tcp, peer.ip());
    tokio::spawn(Serving { connection: serve(tcp, peer), _place: place });
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
