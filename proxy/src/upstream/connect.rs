//! One new connection to an endpoint: TCP, mutual TLS where its cluster asks for it, then the HTTP handshake.

use super::{
    Io,
    beside::{Beside, is_usual},
    http1, http2,
};
use crate::{
    error::{Error, Kind, Result},
    io::{Ahead, probed, unbuffered},
    logic::{ClusterLimits, Permit},
    resolve::Resolver,
    tls,
};
use socket2::SockRef;
use std::{
    future::Future,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, time::Instant};
use weir_config::model::SpiffeId;

use tls::Alpn;

/// How connections to the endpoints of a cluster are made: what of its configuration matters here.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// TCP, TLS and HTTP handshakes together.
    pub connect_timeout: Duration,
    /// An idle pooled connection of HTTP/1.1 is closed after this.
    pub idle_timeout: Duration,
    /// One of HTTP/2, which the other end can close without a loss.
    pub http2_idle_timeout: Duration,
    /// A connection takes no new request after this age.
    pub max_age: Option<Duration>,
    /// Server name and accepted identities; `None`: plain text.
    pub tls: Option<TlsTarget>,
    /// The cluster's limits: a connection holds a permit.
    pub limits: Arc<ClusterLimits>,
    /// Makes TLS connections with this process's identity.
    pub client: Arc<tls::Client>,
    /// The host that is called, where only its name is known: of an endpoint's address the port alone counts.
    pub host: Option<(Arc<str>, Arc<Resolver>)>,
    /// The endpoint is the application beside us: where else it may listen.
    pub beside: Option<Arc<Beside>>,
}

/// Whom a TLS connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsTarget {
    /// By which the other sidecar chooses the port.
    pub sni: Arc<str>,
    /// Whom we accept there.
    pub identities: Arc<[SpiffeId]>,
}

/// Open connections, counted until their tasks end.
#[derive(Debug, Default)]
pub struct ConnectionCount(AtomicUsize);

impl ConnectionCount {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where a connection leads, and where it is counted.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) address: SocketAddr,
    pub(super) mesh: bool,
    pub(super) count: &'p Arc<ConnectionCount>,
}

/// What an open connection counts, and the permit that it holds.
pub(super) struct Alive {
    count: Arc<ConnectionCount>,
    _permit: Option<Permit>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.count.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// HTTP/2 windows: one stream's, and one connection's, which is what `MAX_STREAMS` streams may fill together, so that a
/// reader that stalls cannot starve its neighbours.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Requests that share one HTTP/2 connection; above, another is opened.
pub const MAX_STREAMS: usize = 64;

impl Dialer {
    /// Bytes: TCP, and TLS without a protocol name.
    pub async fn bytes(&self, address: SocketAddr, mesh: bool) -> Result<Io> {
        self.in_time(self.open(address, mesh, &[])).await
    }

    pub(super) async fn http1(&self, place: Place<'_>, permit: Permit) -> Result<http1::Connection> {
        let io = self.in_time(self.open(place.address, place.mesh, &[Alpn::Http1])).await?;
        Ok(http1::Connection::new(io, self.retire_at(Instant::now()), Alive::new(place.count, Some(permit))))
    }

    pub(super) async fn http2(&self, place: Place<'_>, permit: Permit) -> Result<http2::Connection> {
        let windows = http2::Windows { stream: STREAM_WINDOW, connection: CONNECTION_WINDOW };
        self.in_time(async {
            let io = self.open(place.address, place.mesh, &[Alpn::H2]).await?;
            let alive = || Alive::new(place.count, Some(permit));
            http2::open(io, place.address, windows, self.http2_idle_timeout, alive).await
        })
        .await
    }

    async fn open(&self, address: SocketAddr, mesh: bool, alpn: &[Alpn]) -> Result<Io> {
        let tcp = match &self.host {
            Some((host, resolver)) => self.host(host, resolver, address.port()).await?,
            None => {
                let tcp = match (TcpStream::connect(address).await, &self.beside) {
                    (Err(e), Some(beside)) if is_usual(address) && e.kind() == ErrorKind::ConnectionRefused => {
                        Box::pin(beside.connect(address.port(), e)).await
                    }
                    (tcp, _) => tcp,
                };
                tcp.map_err(|e| Kind::ConnectFailed.detail(address.to_string()).because(e))?
            }
        };
        unbuffered(SockRef::from(&tcp));
        probed(&tcp, tcp.peer_addr().map_or(address.ip(), |peer| peer.ip()));
        match self.tls.as_ref().filter(|_| mesh) {
            None => Ok(Io::plain(tcp)),
            Some(target) => {
                let (stream, _peer) = self
                    .client
                    .connect(Ahead::new(tcp), &target.sni, &target.identities, alpn)
                    .await
                    .map_err(|e| tls_failure(&e).detail(format!("{address}: {e}")).because(e))?;
                Ok(Io::client(stream))
            }
        }
    }

    /// Connects to the first address of a host that takes it, from any of them on; each has its share of the time.
    async fn host(&self, host: &str, resolver: &Resolver, port: u16) -> Result<TcpStream> {
        let found = resolver.addresses(host).await;
        let found = found.map_err(|e| Kind::NameUnresolved.detail(host.to_owned()).because(e))?;
        let first = rand::random_range(0..found.len().max(1));
        let share = self.connect_timeout / (found.len().clamp(1, 4) as u32 + 1);
        let mut last = Error::new(Kind::ConnectFailed);
        for n in 0..found.len() {
            let Some(ip) = found.get((first + n) % found.len()) else { break };
            let address = SocketAddr::new(*ip, port);
            let error = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => error,
                Err(_) => std::io::ErrorKind::TimedOut.into(),
            };
            last = Kind::ConnectFailed.detail(format!("{host} at {address}")).because(error);
        }
        Err(last)
    }

    async fn in_time<T>(&self, making: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.connect_timeout, making).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(Kind::ConnectTimeout)),
        }
    }

    /// When a connection made now takes its last new request: the age, less up to a fifth, so that connections made
    /// together are not renewed together.
    pub(super) fn retire_at(&self, now: Instant) -> Option<Instant> {
        self.max_age.map(|age| now + age.mul_f64(0.8 + 0.2 * rand::random::<f64>()))
    }
}

/// What a failed handshake is to the request that needed it. Nothing of the request has been sent.
fn tls_failure(error: &tls::Error) -> Kind {
    match error.reason() {
        tls::Reason::NotReady => Kind::IdentityUnavailable,
        tls::Reason::HandshakeTimeout => Kind::ConnectTimeout,
        reason if reason.is_untrusted() => Kind::TlsPeerUntrusted,
        _ => Kind::TlsFailed,
    }
}

impl Alive {
    pub(super) fn new(count: &Arc<ConnectionCount>, permit: Option<Permit>) -> Self {
        count.0.fetch_add(1, Ordering::Relaxed);
        Self { count: count.clone(), _permit: permit }
    }
}
