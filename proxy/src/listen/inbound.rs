//! From the mesh to the application: mutual TLS, who the caller is, which port it means, then HTTP or bytes.

use super::{
    detect::{Speaks, detect},
    http::{Answer, Answering, serve},
    tcp,
};
use crate::{
    body::Incoming,
    drain,
    error::{Error, Kind},
    http1::Spelling,
    io::Ahead,
    policy::authz::{Asked, enforce},
    record::Recorder,
    request::{Connection, Fields, Request},
    stack,
    stage::Response,
    state::{InboundChain, InboundService, State},
    telemetry::{Direction, Metrics},
    tls::{self, Alpn, Peer},
    tunnel::{self, Tunnel},
    upstream::Io,
};
use http::HeaderValue;
use std::{future::ready, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// The first byte of a TLS record that begins a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;
/// A connection that says nothing for so long is closed.
const FIRST_BYTE: Duration = Duration::from_secs(30);

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
}

impl Inbound {
    /// From the parts that all connections share.
    pub fn new(
        state: Arc<State>,
        server: tls::Server,
        parts: stack::Parts,
        recorder: Recorder,
        metrics: Arc<Metrics>,
        tunnel: Tunnel,
        drain: drain::Watch,
    ) -> Self {
        Self { inner: Arc::new(Inner { state, server, parts, recorder, metrics, tunnel, drain }) }
    }

    /// Serves one connection.
    pub async fn connection(self, worker: usize, tcp: TcpStream, peer: SocketAddr) {
        // In a box: a handshake takes much more room than the connection does afterwards.
        let (io, chain, who) = match Box::pin(self.accept(tcp, peer)).await {
            Ok(accepted) => accepted,
            Err(error) => {
                self.inner.metrics.connection_refused(Direction::Inbound, error.reason());
                tracing::info!(%peer, reason = error.reason(), error = %error.story(), "connection refused");
                return;
            }
        };
        self.serve(worker, peer, io, chain, who).await;
    }

    /// Tells TLS from plain text, shakes hands, and finds the chain.
    async fn accept(&self, tcp: TcpStream, peer: SocketAddr) -> Result<(Io, Arc<InboundChain>, Option<Peer>), Error> {
        let mut first = [0];
        let peeked = tokio::time::timeout(FIRST_BYTE, tcp.peek(&mut first)).await;
        if !matches!(peeked, Ok(Ok(1))) {
            return Err(Kind::ClientTimeout.detail("it said nothing"));
        }
        let inbound = self.inner.state.load().inbound.clone().ok_or(Kind::ConfigNotReady)?;
        if first[0] != TLS_HANDSHAKE {
            let chain = inbound.plain().ok_or_else(|| {
                Kind::TlsPeerUntrusted.detail(format!("{peer} speaks plain text; mutual TLS is required"))
            })?;
            return Ok((Io::plain(tcp), chain.clone(), None));
        }
        let chosen = |sni: Option<&str>| inbound.chain(sni, None).filter(|c| c.tls.is_some()).cloned();
        let required =
            |sni: Option<&str>| chosen(sni).and_then(|c| c.tls).is_none_or(|tls| tls.require_client_certificate);
        let (stream, who) = self.inner.server.accept(Ahead::new(tcp), required).await.map_err(|e| refused(&e))?;
        let chain = chosen(who.sni.as_deref())
            .ok_or_else(|| Kind::RouteNotFound.detail(format!("no port here is called {:?}", who.sni)))?;
        Ok((Io::server(stream), chain, Some(who)))
    }

    async fn serve(self, worker: usize, peer: SocketAddr, mut io: Io, chain: Arc<InboundChain>, who: Option<Peer>) {
        let identity = who.as_ref().and_then(|w| w.id.clone());
        let connection = Arc::new(Connection {
            direction: Direction::Inbound,
            worker,
            peer,
            client_cert: identity.as_ref().and_then(|id| HeaderValue::try_from(format!("URI={id}")).ok()),
            identity,
            tls: who.is_some(),
            sni: who.as_ref().and_then(|w| w.sni.clone()),
        });
        let drain = self.inner.drain.at_random();
        if let InboundService::Tcp { .. } = chain.service {
            return Box::pin(self.bytes(&connection, io, &chain)).await;
        }
        let (speaks, first) = match who.and_then(|w| w.alpn) {
            Some(Alpn::H2) => (Speaks::Http2, vec![]),
            Some(Alpn::Http1) => (Speaks::Http1, vec![]),
            None => match detect(&mut io, &drain).await {
                Ok(Some(detected)) => detected,
                _ => return,
            },
        };
        let callee = Callee { inner: self.inner, connection, chain };
        serve(io, first, speaks, callee, drain).await;
    }

    async fn bytes(&self, connection: &Arc<Connection>, io: Io, chain: &InboundChain) {
        let InboundService::Tcp { cluster, idle_timeout } = &chain.service else { return };
        let asked = Asked { identity: connection.identity.as_ref(), http: None };
        let record = self.inner.recorder.bytes(connection);
        let opened = match enforce(&chain.authz, &asked, connection, &self.inner.metrics) {
            Err(error) => Err(error),
            Ok(()) => match cluster {
                None => Err(Kind::ClusterNotFound.into()),
                Some(cluster) => tcp::dial(cluster, &record).await,
            },
        };
        match opened {
            Ok(application) => {
                let counted = self.inner.tunnel.count();
                tunnel::join(io, application, idle_timeout.unwrap_or(tcp::IDLE), counted).await;
            }
            Err(error) => {
                self.inner.metrics.connection_refused(Direction::Inbound, error.reason());
                tracing::info!(peer = %connection.peer, reason = error.reason(), error = %error.story(), "connection refused");
            }
        }
    }
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
        let chain = match &snapshot.inbound {
            Some(inbound) => inbound.chain(self.connection.sni.as_deref(), None).cloned(),
            None => None,
        };
        let chain = chain.filter(|c| c.tls.is_some() == self.connection.tls).unwrap_or_else(|| self.chain.clone());
        let connection = self.connection.clone();
        match Request::admit(request, spelling, fields, connection, snapshot, record.clone()) {
            Ok(request) => stack::inbound(&self.inner.parts, &chain, request),
            Err(error) => Box::pin(ready(record.refused(&error, fields.grpc))),
        }
    }

    fn refuse(&self, error: &Error) -> Response {
        self.inner.recorder.begin(&http::Request::new(()), false, &self.connection).refused(error, false)
    }
}
