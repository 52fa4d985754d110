//! The floor: a relay that does what no proxy can do less of, as two processes of this program (`weir-bench relay`).
//!
//! Bytes in, bytes out through mutual TLS 1.3, nothing parsed: tokio and rustls with aws-lc-rs as in Weir, one thread.

use super::{
    local,
    pki::{Certificates, Issuer, dns_name},
    settle,
};
use crate::contestant::{Contestant, Failure, Kind, Target};
use clap::Args;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weir_tests::{free_port, process::Process};

/// What is read at once: two TLS records.
const BUFFER: usize = 32 * 1024;

/// One end of the floor.
#[derive(Debug, Args)]
pub struct Relay {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the bytes go.
    #[arg(long)]
    to: SocketAddr,
    /// Its certificate (PEM).
    #[arg(long)]
    chain: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    key: PathBuf,
    /// The root of the other's certificate (PEM).
    #[arg(long)]
    root: PathBuf,
    /// Plain in, TLS out; else TLS in, plain out.
    #[arg(long)]
    caller: bool,
}

/// Starts both ends, and waits until a request went through.
pub(crate) async fn start(application: SocketAddr) -> Result<Contestant, Failure> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new()?;
    let (own, peer) = (issuer.issue(folder.path(), "client")?, issuer.issue(folder.path(), "bench")?);
    let (outside, between) = (local(free_port()), local(free_port()));
    let server = spawn(folder.path(), "server", between, application, &peer)?;
    let client = spawn(folder.path(), "client", outside, between, &own)?;
    settle("the relay", outside, [&client, &server]).await?;
    let target = Target::new(outside, "bench-http:8080");
    Ok(Contestant {
        version: "tokio, rustls and aws-lc-rs, as in Weir".into(),
        proxies: vec![("caller's", client), ("application's", server)],
        others: vec![Box::new(folder)],
        ..Contestant::new(Kind::Relay, target.clone(), target, super::handshake(between, &own))
    })
}

fn spawn(folder: &Path, name: &str, at: SocketAddr, to: SocketAddr, own: &Certificates) -> Result<Process, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["relay", "--listen", &at.to_string(), "--to", &to.to_string()]);
    command.arg("--chain").arg(&own.chain).arg("--key").arg(&own.key).arg("--root").arg(&own.root);
    if name == "client" {
        command.arg("--caller");
    }
    Ok(Process::start(&format!("relay-{name}"), folder, &mut command))
}

/// Relays until it is killed.
pub fn run(relay: &Relay) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(relay.listen).await?;
        let (connector, acceptor) = (relay.connector()?, relay.acceptor()?);
        let (to, caller) = (relay.to, relay.caller);
        let name = ServerName::try_from(dns_name("bench"))?;
        loop {
            let (tcp, _) = listener.accept().await?;
            let (connector, acceptor, name) = (connector.clone(), acceptor.clone(), name.clone());
            tokio::spawn(async move {
                tcp.set_nodelay(true)?;
                if caller {
                    let next = connect(to).await?;
                    copy(tcp, connector.connect(name, next).await?).await
                } else {
                    copy(acceptor.accept(tcp).await?, connect(to).await?).await
                }
            });
        }
    })
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(to).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

async fn copy(
    mut a: impl AsyncRead + AsyncWrite + Unpin,
    mut b: impl AsyncRead + AsyncWrite + Unpin,
) -> std::io::Result<()> {
    copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER).await.map(drop)
}

impl Relay {
    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
        let chain = CertificateDer::pem_file_iter(&self.chain)?.collect::<Result<_, _>>()?;
        Ok((chain, PrivateKeyDer::from_pem_file(&self.key)?))
    }

    fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.root)?)?;
        Ok(roots)
    }

    fn connector(&self) -> Result<TlsConnector, Failure> {
        let (chain, key) = self.identity()?;
        let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn acceptor(&self) -> Result<TlsAcceptor, Failure> {
        let (chain, key) = self.identity()?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots()?)).build()?;
        let config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
