//! The TLS port for xDS and certificates: TLS 1.3, our own certificate from our own authority, client certificates
//! checked against the mesh's roots when they are shown.

mod accept;
mod certificate;

pub use crate::ca::Peer;
pub use accept::Connection;

use crate::{ca::Ca, metrics::Metrics};
use certificate::{ClientVerifier, Own};
use rustls::{ServerConfig, crypto::aws_lc_rs, version::TLS13};
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How the port is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// DNS names and addresses that clients may reach us by, besides `weir-control-plane`, `localhost`, `127.0.0.1`, `::1`.
    pub names: Vec<String>,
    /// The life of our own certificate; it is renewed after two thirds.
    pub lifetime: Duration,
    /// A handshake must be done by then.
    pub handshake: Duration,
    /// More connections wait to be accepted.
    pub connections: usize,
}

impl Default for Options {
    /// No further names, a day, 10 s, 20,000 connections.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            lifetime: Duration::from_secs(24 * 3600),
            handshake: Duration::from_secs(10),
            connections: 20_000,
        }
    }
}

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificate for it.
    #[error(transparent)]
    Certificate(#[from] crate::ca::Error),
    /// TLS does not take what it was given.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Connections of `listener` after their handshake. All tasks are owned by `tasks` and end with `stop`.
///
/// # Errors
/// No serving certificate can be made.
pub fn incoming(
    listener: TcpListener,
    ca: &Arc<Ca>,
    options: &Options,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<ReceiverStream<io::Result<Connection>>, Error> {
    let mut names: Vec<String> =
        ["weir-control-plane", "localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).collect();
    for name in &options.names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let own = Own::new(ca, names, options.lifetime, SystemTime::now())?;
    let verifier = ClientVerifier::new(ca)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::clone(&own) as _);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would bring back an identity without its certificate being checked again.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    metrics.root_expiration.set(i64::try_from(seconds(ca.expires())).unwrap_or(i64::MAX));
    tasks.spawn(own.renew(Arc::clone(ca), stop.clone()));
    Ok(accept::run(listener, Arc::new(config), options.clone(), metrics.clone(), tasks, stop.clone()))
}

/// TLS for who calls us without an identity (Kubernetes, for one), under these names; the certificate is renewed on time,
/// by a task of `tasks` that ends with `stop`.
///
/// # Errors
/// No certificate can be made.
pub fn https(
    ca: &Arc<Ca>,
    names: Vec<String>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<ServerConfig>, Error> {
    let own = Own::new(ca, names, Options::default().lifetime, SystemTime::now())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&own) as _);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    tasks.spawn(own.renew(Arc::clone(ca), stop.clone()));
    Ok(Arc::new(config))
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
