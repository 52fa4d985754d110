//! The calling side: a connection to a sidecar that is who we meant to call.

use super::{
    Alpn, Contexts, Error, Leaf, Peer, Reason, crowd,
    known::{Known, Purpose},
};
use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use weir_config::model::SpiffeId;

/// An encrypted stream to the peer.
pub type ClientStream<IO> = tokio_rustls::client::TlsStream<IO>;

/// Makes client-side connections.
#[derive(Debug, Clone)]
pub struct Client {
    contexts: Arc<Contexts>,
    handshake_timeout: Duration,
}

impl Client {
    /// `handshake_timeout`: the longest a handshake may take.
    pub fn new(contexts: Arc<Contexts>, handshake_timeout: Duration) -> Self {
        Self { contexts, handshake_timeout }
    }

    /// Shakes hands over `io`. `sni` says which port of which service is meant, `allowed` whom we accept at the other
    /// end (one of them; an empty list accepts nobody), `alpn` what may be spoken (empty: bytes).
    ///
    /// # Errors
    /// Says why there is no connection; no byte of the caller's has been sent then.
    pub async fn connect<IO>(
        &self,
        io: IO,
        sni: &str,
        allowed: &[SpiffeId],
        alpn: &[Alpn],
    ) -> Result<(ClientStream<IO>, Peer), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let context = self
            .contexts
            .load()
            .ok_or_else(|| Error::new(Reason::NotReady, "this sidecar has no certificate or no trust bundle yet"))?;
        let name = ServerName::try_from(sni.to_owned())
            .map_err(|_| Error::new(Reason::Protocol, format!("`{sni}` cannot be sent as a server name")))?;
        let protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(context.client.clone());
        let handshake = connector.with_alpn(protocols).connect(name, io);
        let stream = tokio::time::timeout(self.handshake_timeout, crowd::made(handshake))
            .await
            .map_err(|_| Error::new(Reason::HandshakeTimeout, format!("not over within {:?}", self.handshake_timeout)))?
            .flatten()
            .map_err(Error::of_io)?;
        let peer = peer(&stream, sni, allowed, &context.known)?;
        Ok((stream, peer))
    }
}

/// The chain is verified (now, or when the resumed session began); what remains is whether it is the one we meant, and
/// still in its time.
fn peer<IO>(stream: &ClientStream<IO>, sni: &str, allowed: &[SpiffeId], known: &Known) -> Result<Peer, Error> {
    let session = stream.get_ref().1;
    let chain = session.peer_certificates().unwrap_or_default();
    let certificate =
        chain.first().ok_or_else(|| Error::new(Reason::NoCertificate, "the server showed no certificate"))?;
    let leaf = known
        .leaf(chain, Purpose::Server)
        .map_or_else(|| Leaf::parse(certificate).map(Arc::new), Ok)
        .map_err(|e| Error::new(Reason::BadCertificate, format!("the server's certificate: {e:?}")))?;
    if leaf.not_after <= SystemTime::now() {
        return Err(Error::new(Reason::Expired, format!("the certificate of {} has expired", leaf.id)));
    }
    if !allowed.contains(&leaf.id) {
        let expected = allowed.iter().map(SpiffeId::as_str).collect::<Vec<_>>().join(", ");
        return Err(Error::new(Reason::WrongIdentity, format!("the server is {}, expected: {expected}", leaf.id)));
    }
    Ok(Peer {
        id: Some(leaf.id.clone()),
        sni: Some(sni.into()),
        alpn: session.alpn_protocol().and_then(Alpn::from_bytes),
        not_after: Some(leaf.not_after),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    })
}
