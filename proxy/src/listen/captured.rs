//! From the application to wherever it means to go: its connections as the kernel turned them to us. The address decides
//! which destination is meant, and what is known of it, or the first bytes, what is spoken.

use super::{
    detect::{Bytes, How, Speaks, Told, detect, race},
    http::{serve, serve_in},
    original,
    outbound::{Caller, Outbound},
    tcp,
};
use crate::{
    capture::probe,
    connection::Answered,
    error::{Error, Kind, Result},
    http1::Conn,
    request::{Captured, Connection},
    state::{Host, Speech},
    telemetry::Direction,
    upstream::Io,
};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

impl Outbound {
    /// Serves one connection that was captured.
    pub async fn captured(self, worker: usize, mut tcp: TcpStream, peer: SocketAddr) {
        let address = match original::destination(&tcp) {
            Ok(Some(address)) => address,
            // It was sent to us: to go where it was meant to go would lead back here, for ever.
            Ok(None) => return self.turn_away(tcp, peer, &Kind::LoopDetected.detail("it was not captured")),
            Err(_) => return,
        };
        if probe::is_probe(address) {
            // Nobody listens there: who calls wants to know whether it leads here.
            let _ = tcp.write_all(probe::ANSWER).await;
            return;
        }
        let connection = Arc::new(Connection {
            direction: Direction::Outbound,
            worker,
            peer,
            identity: None,
            client_cert: None,
            tls: false,
            sni: None,
            captured: Some(Captured { address, name: original::name(address) }),
            answered: Answered::default(),
        });
        let host = match Box::pin(tcp::find(&self.inner.state, &original::name(address))).await {
            Ok(host) => host,
            Err(error) => return self.turn_away(tcp, peer, &error),
        };
        self.serve(connection, host, address, Io::plain(tcp)).await;
    }

    async fn serve(self, connection: Arc<Connection>, host: Arc<Host>, address: SocketAddr, mut io: Io) {
        if host.by_name {
            return Box::pin(self.by_name(connection, host, address, io)).await;
        }
        let drain = self.inner.drain.at_random();
        match host.speech {
            Speech::Http => {
                // What stays is made before what comes and goes.
                let room = Conn::vacant().shared();
                let Ok(Some((speaks, first))) = detect(&mut io, &drain).await else { return };
                self.told(result(speaks), How::Declared);
                serve_in(room, io, first, speaks, Caller { inner: self.inner, connection }, drain).await;
            }
            Speech::Bytes => {
                self.told("bytes", How::Declared);
                let record = self.inner.recorder.bytes(&connection);
                let opened = Box::pin(tcp::through(&host, &record)).await;
                self.bytes(connection.peer, io, opened, Bytes::none(How::Declared)).await;
            }
            Speech::Outside => {
                self.told("bytes", How::Passthrough);
                let record = self.inner.recorder.bytes(&connection);
                let opened = Box::pin(tcp::outside(&host, address, &record)).await;
                self.bytes(connection.peer, io, opened, Bytes::none(How::Passthrough)).await;
            }
            Speech::Detect => Box::pin(self.detect(connection, host, io)).await,
        }
    }

    /// Nobody has said what is spoken there.
    async fn detect(self, connection: Arc<Connection>, host: Arc<Host>, mut io: Io) {
        let record = self.inner.recorder.bytes(&connection);
        let (mut drain, mut rest) = (self.inner.drain.at_random(), None);
        let mut other = None;
        let open = async {
            let mut opened = tcp::through(&host, &record).await?;
            let io = opened.take();
            rest = Some(opened);
            io.ok_or_else(|| Kind::Internal.into())
        };
        let client_first = host.clients_speak_http.load(Ordering::Relaxed);
        let told = tokio::select! {
            told = race(&mut io, &mut other, open, client_first) => told,
            // A connection of which nobody knows what it is is kept like any other that is silent.
            () = drain.out_of_patience() => return,
        };
        match told {
            Ok(Told::Gone) => {}
            Ok(Told::Http(speaks, first)) => {
                host.clients_speak_http.store(true, Ordering::Relaxed);
                self.told(result(speaks), How::ClientBytes);
                // What was opened was for bytes.
                drop((record, rest, other));
                serve(io, first, speaks, Caller { inner: self.inner, connection }, drain).await;
            }
            Ok(Told::Bytes(bytes)) => {
                host.clients_speak_http.store(false, Ordering::Relaxed);
                self.told(if bytes.sni.is_some() { "tls" } else { "bytes" }, bytes.how);
                let opened = match (rest, other) {
                    (Some(opened), Some(io)) => Ok(opened.with(io)),
                    _ => Box::pin(tcp::through(&host, &record)).await,
                };
                self.bytes(connection.peer, io, opened, bytes).await;
            }
            Err(error) => self.bytes(connection.peer, io, Err(error), Bytes::none(How::ServerFirst)).await,
        }
    }

    /// Carries bytes, or says why not.
    pub(super) async fn bytes(&self, peer: SocketAddr, io: Io, opened: Result<tcp::Opened>, read: Bytes) {
        match opened {
            Ok(opened) => {
                tracing::debug!(%peer, method = read.how.as_str(), sni = read.sni, "carried as bytes");
                opened.carry(io, read.client, read.server, self.inner.tunnel.count()).await;
            }
            Err(error) => {
                self.refused(peer, &error);
                io.reset();
            }
        }
    }

    pub(super) fn told(&self, result: &'static str, how: How) {
        self.inner.tunnel.metrics.detected(Direction::Outbound, result, how.as_str());
    }

    /// Ends it as a connection ends that nobody takes: with a reset.
    fn turn_away(&self, tcp: TcpStream, peer: SocketAddr, error: &Error) {
        self.refused(peer, error);
        let _ = tcp.set_zero_linger();
    }

    pub(super) fn refused(&self, peer: SocketAddr, error: &Error) {
        self.inner.tunnel.metrics.connection_refused(Direction::Outbound, error.reason());
        tracing::info!(%peer, reason = error.reason(), error = %error.story(), "captured connection refused");
    }
}

/// The `result` of a decision.
pub(super) fn result(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Http1 => "http1",
        Speaks::Http2 => "http2",
    }
}
