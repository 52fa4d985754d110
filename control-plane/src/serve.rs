//! Serving HTTP (and HTTPS) to people, scrapers and Kubernetes: one accept loop with limits on everything that a client can make large or slow.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections beyond this wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// A request's head must have come by then; also ends idle connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS handshake must be done by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head.
const MAX_HEAD: usize = 64 * 1024;

/// Binds with a message that names the port and what to do.
///
/// # Errors
/// The address is taken, or is none of this machine.
pub async fn bind(what: &str, flag: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let message = format!("cannot listen on {address} for {what}: {e}; choose another address with {flag}");
        io::Error::new(e.kind(), message)
    })
}

/// Answers until `stop`, then lets requests under way end. Connections are owned by `tasks`.
pub async fn serve(listener: TcpListener, router: Router, tasks: TaskTracker, stop: CancellationToken) {
    accept(listener, None, router, tasks, stop).await;
}

/// The same over TLS.
pub async fn serve_tls(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    accept(listener, Some(TlsAcceptor::from(config)), router, tasks, stop).await;
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(e) => {
                // Out of descriptors, mostly: give others the time to end.
                tracing::warn!(error = %e, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, stop, tls) = (router.clone(), stop.clone(), tls.clone());
        tasks.spawn(async move {
            match tls {
                None => connection(tcp, router, &stop).await,
                Some(tls) => {
                    if let Some(tcp) = shake(tcp, &tls, &stop).await {
                        connection(tcp, router, &stop).await;
                    }
                }
            }
            drop(slot);
        });
    }
}

async fn shake(
    tcp: TcpStream,
    tls: &TlsAcceptor,
    stop: &CancellationToken,
) -> Option<impl AsyncRead + AsyncWrite + Unpin> {
    tokio::select! {
        () = stop.cancelled() => None,
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)) => match shaken {
            Ok(Ok(tcp)) => Some(tcp),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        },
    }
}

async fn connection(tcp: impl AsyncRead + AsyncWrite + Unpin, router: Router, stop: &CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
