//! Sockets: one listening socket a data thread (`SO_REUSEPORT`), so that the kernel spreads connections over the
//! threads and each is served where it was accepted.

use crate::{drain, error::Kind, telemetry::Metrics};
use pin_project_lite::pin_project;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};

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

fn socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listening(Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?, address)
}

fn listening(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Open connections of one direction, over all threads, and how many there may be.
#[derive(Debug)]
pub struct Places {
    open: AtomicUsize,
    most: usize,
}

/// One of them.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// At most `most`.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), most })
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(self.clone()))
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
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
    /// The drain, which ends it.
    pub stop: drain::Watch,
    /// How long connections are still accepted then.
    pub linger: Duration,
}

impl Accepting {
    /// Accepts on `socket`, and serves each connection in a task of its own.
    ///
    /// # Errors
    /// The socket cannot be used with this thread's runtime.
    pub async fn run<F, S>(self, socket: std::net::TcpListener, places: Arc<Places>, serve: S) -> io::Result<()>
    where
        S: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::from_std(socket)?;
        let mut accepting = std::pin::pin!(accept(&listener, &places, &self.metrics, &serve));
        if self.stop.until_begun(accepting.as_mut()).await.is_none() {
            let _ = tokio::time::timeout(self.linger, accepting).await;
        }
        Ok(())
    }
}

async fn accept<F, S>(listener: &TcpListener, places: &Arc<Places>, metrics: &Metrics, serve: &S)
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                // Out of descriptors or memory: those who wait stay in the kernel's queue.
                tracing::warn!(%error, "cannot accept");
                metrics.shed(Kind::Overload.reason());
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = places.take() else {
            metrics.shed(Kind::Overload.reason());
            continue;
        };
        tcp.set_nodelay(true).ok();
        tokio::spawn(Serving { connection: serve(tcp, peer), _place: place });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
