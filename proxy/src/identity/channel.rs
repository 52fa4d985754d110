//! The way to the control plane: gRPC over TLS 1.3, its name checked against the roots we were started with and the
//! mesh's bundle, with our certificate once there is one.

use super::Identity;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::aws_lc_rs,
    sign::SingleCertAndKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// How long a connection to the control plane may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for one of several addresses: what hangs must leave time for the next.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Addresses of one name that are tried, and addresses that are named.
const MAX_ADDRESSES: usize = 16;
/// A ping after so long without a byte: what is between us and the control plane may drop idle connections silently.
/// Not more often: each wakes a process that may have nothing else to do.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Far above sixteen roots.
const MAX_ROOT_FILE: u64 = 1024 * 1024;

/// Where the control plane is, and how it is known.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// `<host>:<port>`, or several of them with commas between; one host may have several addresses. They are replicas
    /// of one control plane: any of them will do.
    pub address: String,
    /// The name in its certificate, if it is not the host of `address`.
    pub server_name: Option<String>,
    /// Who vouches for it before we know the mesh's bundle.
    pub roots: Option<Roots>,
    /// Which of them is in use, counted on for ever; shared by all who connect.
    pub turn: Arc<AtomicUsize>,
}

/// Root certificates in PEM.
#[derive(Debug, Clone)]
pub enum Roots {
    /// In a file, read again for each connection, so that it can be replaced on disk.
    File(PathBuf),
    /// Given at the start.
    Pem(String),
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The roots cannot be used.
    #[error("the root certificates for the control plane: {0}")]
    Roots(String),
    /// The address or name is none.
    #[error("the control plane's address: {0}")]
    Address(String),
    /// The TLS configuration.
    #[error("TLS towards the control plane: {0}")]
    Tls(#[from] rustls::Error),
    /// It cannot be reached, or is not who it should be.
    #[error("no connection to the control plane: {0}")]
    Connect(String),
}

impl ControlPlane {
    /// Connects to the replica in use, or to the first one after it that can be reached. `authenticated`: with our
    /// certificate.
    ///
    /// # Errors
    /// Says what is wrong with the configuration, the way, or the other end.
    pub async fn connect(&self, identity: &Identity, authenticated: bool) -> Result<Channel, ChannelError> {
        let addresses: Vec<&str> = self.addresses().collect();
        let connecting = async {
            let mut last = ChannelError::Address("none is named".into());
            for _ in 0..addresses.len() {
                let turn = self.turn.load(Ordering::Relaxed);
                let connected = self.connect_to(addresses[turn % addresses.len()], identity, authenticated);
                let limit = if addresses.len() > 1 { ADDRESS_TIMEOUT } else { CONNECT_TIMEOUT };
                match tokio::time::timeout(limit, connected).await {
                    Ok(Ok(channel)) => return Ok(channel),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = ChannelError::Connect(format!("not made within {limit:?}")),
                }
                // Whoever else connects moves on too, once.
                let _ = self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
            }
            Err(last)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(ChannelError::Connect(format!("not made within {CONNECT_TIMEOUT:?}"))))
    }

    async fn connect_to(
        &self,
        address: &str,
        identity: &Identity,
        authenticated: bool,
    ) -> Result<Channel, ChannelError> {
        let name = self.name(address)?;
        let config = Arc::new(self.config(identity, authenticated)?);
        let there = address.to_owned();
        let connector = tower::service_fn(move |_| {
            let (name, config, there) = (name.clone(), config.clone(), there.clone());
            async move {
                let tcp = any_of(&there).await?;
                tcp.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(TlsConnector::from(config).connect(name, tcp).await?))
            }
        });
        // TLS is made here, by the connector: to the library this is a plain connection.
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|e| ChannelError::Address(e.to_string()))?;
        let endpoint = endpoint
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(1024 * 1024);
        endpoint.connect_with_connector(connector).await.map_err(|e| ChannelError::Connect(chain(&e)))
    }

    /// The replica in use has ended what it had begun: the next connection is made to another one.
    pub fn leave(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    fn addresses(&self) -> impl Iterator<Item = &str> {
        self.address.split(',').map(str::trim).filter(|a| !a.is_empty()).take(MAX_ADDRESSES)
    }

    fn name(&self, address: &str) -> Result<ServerName<'static>, ChannelError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = self.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        ServerName::try_from(name.to_owned()).map_err(|e| ChannelError::Address(format!("`{name}`: {e}")))
    }

    fn config(&self, identity: &Identity, authenticated: bool) -> Result<ClientConfig, ChannelError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = self.root_store(identity)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| ChannelError::Roots(e.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_webpki_verifier(verifier);
        let mut config = match identity.current().filter(|_| authenticated) {
            Some(current) => {
                let certified = current.credentials().certified().clone();
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // One connection lives for hours; a resumed one would prove an older certificate than the present.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// The roots we were started with, and those of the bundle: after a rotation the control plane shows a certificate
    /// of the new root.
    fn root_store(&self, identity: &Identity) -> Result<RootCertStore, ChannelError> {
        let mut store = RootCertStore::empty();
        let known = identity.bundle();
        for root in known.iter().flat_map(|b| b.roots()) {
            store.add(root.clone())?;
        }
        match self.given_roots() {
            Ok(roots) => {
                for root in roots {
                    store.add(root)?;
                }
            }
            // With a bundle we can go on; the file may be in the middle of being replaced.
            Err(error) if !store.is_empty() => tracing::warn!(%error, "only the mesh's bundle is used"),
            Err(error) => return Err(error),
        }
        if store.is_empty() {
            return Err(ChannelError::Roots(
                "none is given, so nobody can be trusted (`--control-plane-roots`)".into(),
            ));
        }
        Ok(store)
    }

    fn given_roots(&self) -> Result<Vec<CertificateDer<'static>>, ChannelError> {
        let (place, content) = match &self.roots {
            None => return Ok(Vec::new()),
            Some(Roots::Pem(text)) => ("what was given at the start".to_owned(), text.clone()),
            Some(Roots::File(path)) => (format!("`{}`", path.display()), read_roots(path)?),
        };
        let failed = |e: String| ChannelError::Roots(format!("{place}: {e}"));
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content.as_bytes()).collect();
        let roots = roots.map_err(|e| failed(e.to_string()))?;
        if roots.is_empty() { Err(failed("there is no certificate in it".into())) } else { Ok(roots) }
    }
}

/// A connection to one of the addresses that a name has, in no particular order, so that sidecars spread.
async fn any_of(address: &str) -> io::Result<TcpStream> {
    let mut found: Vec<SocketAddr> = lookup_host(address).await?.collect();
    let start = rand::random_range(0..found.len().max(1));
    found.rotate_left(start);
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("`{address}` has no address"));
    let several = found.len() > 1;
    for address in found.into_iter().take(MAX_ADDRESSES) {
        // What does not answer must leave time for the next.
        let limit = if several { ADDRESS_TIMEOUT / 3 } else { CONNECT_TIMEOUT };
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn read_roots(path: &Path) -> Result<String, ChannelError> {
    let failed = |e: String| ChannelError::Roots(format!("`{}`: {e}", path.display()));
    let length = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if length > MAX_ROOT_FILE {
        return Err(failed("larger than 1 MiB".into()));
    }
    std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))
}

/// An error with all that caused it: the library's own text says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
