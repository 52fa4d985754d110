//! From the mesh to the application: mutual TLS, who the caller is, which port it means, then HTTP or bytes.

use super::{
    captured::result,
    detect::{How, Speaks, Told, detect, race},
    hello::{self, Hello},
    http::{Answer, Answering, serve},
    original, tcp,
};
use crate::{
    body::Incoming,
    connection::Answered,
    drain,
    error::{Error, Kind},
    http1::Spelling,
    io::Ahead,
    policy::authz::{Asked, enforce},
    record::Recorder,
    request::{Captured, Connection, Fields, Request},
    stack,
    stage::Response,
    state::{self, AtPort, Chains, InboundChain, InboundService, Probes, State},
    telemetry::{Direction, Metrics},
    tls::{self, Alpn, Peer},
    tunnel::Tunnel,
    upstream::Io,
};
use http::HeaderValue;
use std::{future::ready, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use weir_config::model::Discovery;

/// The first byte of a TLS record that begins a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;
/// A connection that says nothing for so long is closed.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// A caller in plain text that waits for the application to speak is listened to for so long before: who speaks mutual
/// TLS speaks at once.
const LISTENS: Duration = Duration::from_millis(2);

/// Serves the inbound side on all data threads.
#[derive(Clone)]
pub struct Inbound {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<State>,
    server: tls::Server,
    parts: stack::Parts,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    tunnel: Tunnel,
    drain: drain::Watch,
    /// Where connections are captured: what may be asked without an identity.
    probes: Option<Arc<Probes>>,
}

impl Inbound {
    /// From the parts that all connections share. `probes`: connections are captured, so that they may have been meant for
    /// another port; and what a kubelet may ask there.
    #[expect(clippy::too_many_arguments, reason = "each is one of the parts")]
    pub fn new(
        state: Arc<State>,
        server: tls::Server,
        parts: stack::Parts,
        recorder: Recorder,
        metrics: Arc<Metrics>,
        tunnel: Tunnel,
        drain: drain::Watch,
        probes: Option<Arc<Probes>>,
    ) -> Self {
        Self { inner: Arc::new(Inner { state, server, parts, recorder, metrics, tunnel, drain, probes }) }
    }

    /// Serves one connection.
    pub async fn connection(self, worker: usize, tcp: TcpStream, peer: SocketAddr) {
        self.inner.state.beside().learn(&tcp, peer);
        let captured = match self.inner.probes.is_some() {
            true => match original::destination(&tcp) {
                Ok(captured) => captured.map(|address| Captured { address, name: original::name(address) }),
                Err(_) => return,
            },
            false => None,
        };
        // In a box: a handshake takes much more room than the connection does afterwards.
        let accepted = match Box::pin(self.accept(tcp, peer, captured.as_ref())).await {
            Ok(Some(accepted)) => accepted,
            // That it could connect is all that it wanted to know.
            Ok(None) => return,
            Err(error) => return self.refuse(peer, &error),
        };
        let Accepted { io, chains, who } = accepted;
        let identity = who.as_ref().and_then(|w| w.id.clone());
        let connection = Arc::new(Connection {
            direction: Direction::Inbound,
            worker,
            peer,
            client_cert: identity.as_ref().and_then(|id| HeaderValue::try_from(format!("URI={id}")).ok()),
            identity,
            tls: who.is_some(),
            sni: who.as_ref().and_then(|w| w.sni.clone()),
            captured,
            answered: Answered::default(),
        });
        self.serve(connection, io, chains, who.and_then(|w| w.alpn)).await;
    }

    /// Tells TLS from plain text, shakes hands, and finds the chains. `None`: it wanted nothing.
    async fn accept(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        captured: Option<&Captured>,
    ) -> Result<Option<Accepted>, Error> {
        let port = captured.map(|captured| captured.address.port());
        let probes = self.inner.probes(port);
        // A kubelet's questions pass whatever the mesh says of plain text; what else is asked there is refused one by one.
        let plain = |inbound: Option<&state::Inbound>| {
            let probes = || probes.and_then(AtPort::chains);
            inbound.and_then(|inbound| inbound.plain(port)).or_else(probes).cloned()
        };
        let inbound = self.inner.state.load().inbound.clone();
        // Where a caller in plain text may wait for the application to speak, it is not waited for.
        let waits = match (&inbound, captured) {
            (Some(inbound), Some(_)) => inbound.plain(port).is_some_and(|chains| {
                chains.detects() || chains.of(false).is_some_and(|c| matches!(c.service, InboundService::Tcp { .. }))
            }),
            _ => false,
        };
        let mut first = [0];
        let patience = if waits { LISTENS } else { FIRST_BYTE };
        let peeked = tokio::time::timeout(patience, tcp.peek(&mut first)).await;
        let inbound = self.inner.state.load().inbound.clone();
        let in_plain_text = |tcp, chains| Ok(Some(Accepted { io: Io::plain(tcp), chains, who: None }));
        match peeked {
            Ok(Ok(1)) => {}
            Err(_) if waits => return in_plain_text(tcp, plain(inbound.as_deref()).ok_or(Kind::ClientTimeout)?),
            Ok(Ok(0) | Err(_)) if probes.is_some_and(AtPort::is_connected_to) => return Ok(None),
            _ => return Err(Kind::ClientTimeout.detail("it said nothing")),
        }
        let is_tls = first[0] == TLS_HANDSHAKE;
        if !is_tls && inbound.is_none() {
            return in_plain_text(tcp, plain(None).ok_or(Kind::ConfigNotReady)?);
        }
        let inbound = inbound.ok_or(Kind::ConfigNotReady)?;
        if !is_tls || (waits && !self.is_ours(&tcp, &inbound).await) {
            // What speaks TLS is no kubelet's question that could be looked into.
            let found = if is_tls { inbound.plain(port).cloned() } else { plain(Some(&inbound)) };
            let chains = found.ok_or_else(|| {
                let which = port.map_or_else(String::new, |port| format!(" to port {port}"));
                Kind::TlsPeerUntrusted.detail(format!("{peer} speaks plain text{which}; mutual TLS is required"))
            })?;
            return in_plain_text(tcp, chains);
        }
        let chosen = move |sni: Option<&str>| inbound.named(sni).cloned();
        let choose = chosen.clone();
        let required =
            move |sni: Option<&str>| choose(sni).and_then(|c| c.tls()).is_none_or(|t| t.require_client_certificate);
        let (stream, who) = self.inner.server.accept(Ahead::new(tcp), required).await.map_err(|e| refused(&e))?;
        let chains = chosen(who.sni.as_deref())
            .filter(|chains| chains.tls().is_some())
            .ok_or_else(|| Kind::RouteNotFound.detail(format!("no port here is called {:?}", who.sni)))?;
        Ok(Some(Accepted { io: Io::server(stream), chains, who: Some(who) }))
    }

    /// Whether TLS is meant for us, by the name that it asks for, and not for the application: looked at without taking
    /// it. What cannot be looked at in time is.
    async fn is_ours(&self, tcp: &TcpStream, inbound: &state::Inbound) -> bool {
        let mut read = vec![0; hello::MOST];
        let look = async {
            let mut seen = 0;
            loop {
                let n = tcp.peek(&mut read).await.ok()?;
                match hello::server_name(read.get(..n)?) {
                    Hello::Name(name) => return Some(inbound.is_named(name.as_deref()?)),
                    Hello::Other => return None,
                    Hello::More => {}
                }
                if n <= seen {
                    // What is there is there still: the rest comes when it comes.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                seen = n;
            }
        };
        tokio::time::timeout(FIRST_BYTE, look).await.ok().flatten().unwrap_or(false)
    }

    async fn serve(self, connection: Arc<Connection>, mut io: Io, chains: Chains, alpn: Option<Alpn>) {
        if !connection.tls && chains.detects() {
            return Box::pin(self.detect(connection, io, chains)).await;
        }
        // Who speaks HTTP over mutual TLS says so, where it matters.
        let Some(chain) = chains.of(alpn.is_some()).cloned() else { return };
        drop(chains);
        let drain = self.inner.drain.at_random();
        if let InboundService::Tcp { .. } = chain.service {
            self.told(&connection, "bytes", How::Declared);
            return Box::pin(self.bytes(&connection, io, &chain)).await;
        }
        let (speaks, first) = match alpn {
            Some(Alpn::H2) => (Speaks::Http2, vec![]),
            Some(Alpn::Http1) => (Speaks::Http1, vec![]),
            None => match detect(&mut io, &drain).await {
                Ok(Some(detected)) => detected,
                _ => return,
            },
        };
        self.told(&connection, result(speaks), How::Declared);
        serve(io, first, speaks, Callee { inner: self.inner, connection, chain }, drain).await;
    }

    /// Plain text to a port of which nobody has said what it speaks.
    async fn detect(self, connection: Arc<Connection>, mut io: Io, chains: Chains) {
        let Some(bytes) = chains.of(false).cloned() else { return };
        let (mut rest, mut other) = (None, None);
        let mut drain = self.inner.drain.at_random();
        let open = async {
            let mut opened = self.open(&connection, &bytes).await?;
            let io = opened.take();
            rest = Some(opened);
            io.ok_or_else(|| Kind::Internal.into())
        };
        let told = tokio::select! {
            told = race(&mut io, &mut other, open, false) => told,
            // A connection of which nobody knows what it is is kept like any other that is silent.
            () = drain.out_of_patience() => return,
        };
        match told {
            Ok(Told::Gone) => {}
            Ok(Told::Http(speaks, first)) => {
                self.told(&connection, result(speaks), How::ClientBytes);
                drop((rest, other));
                let Some(chain) = chains.of(true).cloned() else { return };
                serve(io, first, speaks, Callee { inner: self.inner, connection, chain }, drain).await;
            }
            Ok(Told::Bytes(read)) => {
                self.told(&connection, if read.sni.is_some() { "tls" } else { "bytes" }, read.how);
                let opened = match (rest, other) {
                    (Some(opened), Some(io)) => Ok(opened.with(io)),
                    _ => self.open(&connection, &bytes).await,
                };
                match opened {
                    Ok(opened) => opened.carry(io, read.client, read.server, self.inner.tunnel.count()).await,
                    Err(error) => self.refuse(connection.peer, &error),
                }
            }
            Err(error) => self.refuse(connection.peer, &error),
        }
    }

    async fn bytes(&self, connection: &Arc<Connection>, io: Io, chain: &InboundChain) {
        match self.open(connection, chain).await {
            Ok(opened) => opened.carry(io, vec![], vec![], self.inner.tunnel.count()).await,
            Err(error) => self.refuse(connection.peer, &error),
        }
    }

    /// A connection of bytes to the application, for whoever may have it.
    async fn open(&self, connection: &Connection, chain: &InboundChain) -> Result<tcp::Opened, Error> {
        let InboundService::Tcp { cluster, idle_timeout } = &chain.service else {
            return Err(Kind::BytesRefused.into());
        };
        let asked = Asked { identity: connection.identity.as_ref(), http: None };
        enforce(&chain.authz, &asked, connection, &self.inner.metrics)?;
        let cluster = cluster.as_ref().ok_or(Kind::ClusterNotFound)?;
        if cluster.config.discovery == Discovery::OriginalDestination {
            let captured = connection.captured.as_ref().ok_or(Kind::RouteNotFound)?;
            return tcp::there(cluster, captured.address, *idle_timeout).await;
        }
        tcp::to(cluster, *idle_timeout, &self.inner.recorder.bytes(connection)).await
    }

    fn told(&self, connection: &Connection, result: &'static str, how: How) {
        if !connection.tls && connection.captured.is_some() {
            self.inner.metrics.detected(Direction::Inbound, result, how.as_str());
        }
    }

    fn refuse(&self, peer: SocketAddr, error: &Error) {
        self.inner.metrics.connection_refused(Direction::Inbound, error.reason());
        tracing::info!(%peer, reason = error.reason(), error = %error.story(), "connection refused");
    }
}

impl Inner {
    /// What may be asked at a port without an identity.
    fn probes(&self, port: Option<u16>) -> Option<&AtPort> {
        self.probes.as_ref()?.of(port?)
    }
}

/// A connection that is let in.
struct Accepted {
    io: Io,
    chains: Chains,
    who: Option<Peer>,
}

fn refused(error: &tls::Error) -> Error {
    let kind = match error.reason() {
        tls::Reason::NotReady => Kind::IdentityUnavailable,
        tls::Reason::HandshakeTimeout => Kind::ClientTimeout,
        reason if reason.is_untrusted() => Kind::TlsPeerUntrusted,
        _ => Kind::TlsFailed,
    };
    kind.detail(format!("{}: {}", error.reason().as_str(), error.detail()))
}

/// One connection to the application.
#[derive(Clone)]
struct Callee {
    inner: Arc<Inner>,
    connection: Arc<Connection>,
    chain: Arc<InboundChain>,
}

impl Answer for Callee {
    fn answer(&self, request: http::Request<Incoming>, spelling: Option<Spelling>) -> Answering<'_> {
        let fields = Fields::of(request.headers());
        let record = self.inner.recorder.begin(&request, fields.grpc, &self.connection);
        let snapshot = self.inner.state.load();
        // The chain of this request's snapshot, not of the connection's beginning: rules change under a connection.
        let chains = snapshot.inbound.as_ref().and_then(|inbound| match self.connection.tls {
            true => inbound.named(self.connection.sni.as_deref()),
            false => inbound.plain(self.connection.port()),
        });
        let chain = chains.and_then(|chains| chains.of(true)).cloned();
        let chain = chain.filter(|c| c.tls.is_some() == self.connection.tls).unwrap_or_else(|| self.chain.clone());
        let probes = self.inner.probes(self.connection.port().filter(|_| !self.connection.tls));
        let found = match probes {
            Some(probes) => probes.chain(&request, chain),
            None => Some(chain),
        };
        let Some(chain) = found else {
            let why = "plain text, and none of the questions of the pod's probes; mutual TLS is required";
            return Box::pin(ready(record.refused(&Kind::TlsPeerUntrusted.detail(why), fields.grpc)));
        };
        let connection = self.connection.clone();
        match Request::admit(request, spelling, fields, connection, snapshot, record.clone()) {
            Ok(request) => stack::inbound(&self.inner.parts, &chain, request),
            Err(error) => Box::pin(ready(record.refused(&error, fields.grpc))),
        }
    }

    fn refuse(&self, error: &Error) -> Response {
        self.inner.recorder.begin(&http::Request::new(()), false, &self.connection).refused(error, false)
    }

    /// A tenth more or less, so that connections made together do not end together.
    fn max_age(&self) -> Option<Duration> {
        let InboundService::Http { http, .. } = &self.chain.service else { return None };
        http.max_connection_age.map(|age| age.mul_f64(0.9 + 0.2 * rand::random::<f64>()))
    }
}
