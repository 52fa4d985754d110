//! Accepting: connections bounded, handshakes bounded in time and done beside each other, and who the peer is.

use super::Options;
use crate::{
    ca::{Peer, spiffe_id},
    metrics::Metrics,
};
use rustls::ServerConfig;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected;

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    _open: Open,
}

/// Counts an open connection, and holds its place.
#[derive(Debug)]
struct Open {
    metrics: Metrics,
    _place: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

/// Accepts until `stop`.
pub(super) fn run(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    options: Options,
    metrics: Metrics,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(64);
    let acceptor = TlsAcceptor::from(config);
    let handshakes = tasks.clone();
    tasks.spawn(async move {
        let slots = Arc::new(Semaphore::new(options.connections));
        while let Some((tcp, address, slot)) = next(&listener, &slots, &stop).await {
            metrics.connections.inc();
            let open = Open { metrics: metrics.clone(), _place: slot };
            let (acceptor, sender, stop) = (acceptor.clone(), sender.clone(), stop.clone());
            let limit = options.handshake;
            handshakes.spawn(async move {
                let connection = tokio::select! {
                    connection = handshake(tcp, address, &acceptor, limit, open) => connection,
                    () = stop.cancelled() => None,
                };
                if let Some(connection) = connection {
                    // Nobody takes connections any more: we are stopping.
                    let _ = sender.send(Ok(connection)).await;
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(slots).acquire_owned() => slot.ok()?,
            () = stop.cancelled() => return None,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((tcp, address)) => return Some((tcp, address, slot)),
            Err(error) => {
                // Out of descriptors, mostly: give others the time to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn handshake(
    tcp: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    limit: Duration,
    open: Open,
) -> Option<Connection> {
    let failed = |reason: &str, error: &dyn std::fmt::Display| {
        Metrics::count(&open.metrics.handshakes, reason);
        tracing::debug!(%address, reason, %error, "a TLS handshake failed");
    };
    if let Err(error) = tcp.set_nodelay(true) {
        failed("io", &error);
        return None;
    }
    match tokio::time::timeout(limit, acceptor.accept(tcp)).await {
        Err(error) => {
            failed("timeout", &error);
            None
        }
        Ok(Err(error)) => {
            failed(reason(&error), &error);
            None
        }
        Ok(Ok(tls)) => {
            let identity = tls.get_ref().1.peer_certificates().and_then(|c| spiffe_id(c.first()?));
            Some(Connection { tls, peer: Peer { address: Some(address), identity }, _open: open })
        }
    }
}

fn reason(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired)) => "certificate_expired",
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::ExpiredContext { .. })) => {
            "certificate_expired"
        }
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => "unknown_issuer",
        Some(rustls::Error::InvalidCertificate(_)) => "certificate",
        Some(rustls::Error::AlertReceived(_)) => "refused_by_peer",
        Some(_) => "protocol",
        None => "io",
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
