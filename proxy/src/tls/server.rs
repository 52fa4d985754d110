//! The called side: who calls, which port they mean, and whether they may come in without saying who they are.

use super::{
    Alpn, Contexts, Error, Leaf, Peer, Reason,
    context::Context,
    crowd,
    known::{Known, Purpose},
};
use rustls::{HandshakeKind, server::Acceptor};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

/// An encrypted stream to the peer.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// Accepts server-side connections.
#[derive(Debug, Clone)]
pub struct Server {
    contexts: Arc<Contexts>,
    handshake_timeout: Duration,
}

impl Server {
    /// `handshake_timeout`: the longest a handshake may take, from the first byte awaited.
    pub fn new(contexts: Arc<Contexts>, handshake_timeout: Duration) -> Self {
        Self { contexts, handshake_timeout }
    }

    /// Shakes hands over `io`. `required` is asked once, with the server name that the caller sent, whether the caller
    /// must show a certificate; a certificate that is shown must be good in either case.
    ///
    /// # Errors
    /// Says why the caller was not let in. It has been told by a TLS alert where the protocol has a word for it.
    pub async fn accept<IO>(
        &self,
        io: IO,
        required: impl FnOnce(Option<&str>) -> bool + Send + 'static,
    ) -> Result<(ServerStream<IO>, Peer), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let context = self
            .contexts
            .load()
            .ok_or_else(|| Error::new(Reason::NotReady, "this sidecar has no certificate or no trust bundle yet"))?;
        tokio::time::timeout(self.handshake_timeout, crowd::made(handshake(context, io, required)))
            .await
            .map_err(|_| Error::new(Reason::HandshakeTimeout, format!("not over within {:?}", self.handshake_timeout)))?
            .map_err(Error::of_io)?
    }
}

async fn handshake<IO>(
    context: Arc<Context>,
    io: IO,
    required: impl FnOnce(Option<&str>) -> bool,
) -> Result<(ServerStream<IO>, Peer), Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(Error::of_io)?;
    let sni: Option<Arc<str>> = start.client_hello().server_name().map(Arc::from);
    let required = required(sni.as_deref());
    let config = if required { &context.server_required } else { &context.server_optional };
    let stream = start.into_stream(config.clone()).await.map_err(Error::of_io)?;
    let peer = peer(&stream, sni, required, &context.known)?;
    Ok((stream, peer))
}

/// A resumed session shows the certificate of its beginning: whether that is still in its time, and was there at all,
/// is asked here.
fn peer<IO>(stream: &ServerStream<IO>, sni: Option<Arc<str>>, required: bool, known: &Known) -> Result<Peer, Error> {
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol().and_then(Alpn::from_bytes);
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    let chain = session.peer_certificates().unwrap_or_default();
    let Some(certificate) = chain.first() else {
        if required {
            return Err(Error::new(Reason::NoCertificate, "the caller showed no certificate"));
        }
        return Ok(Peer { id: None, sni, alpn, not_after: None, resumed });
    };
    let leaf = known
        .leaf(chain, Purpose::Client)
        .map_or_else(|| Leaf::parse(certificate).map(Arc::new), Ok)
        .map_err(|e| Error::new(Reason::BadCertificate, format!("the caller's certificate: {e:?}")))?;
    if leaf.not_after <= SystemTime::now() {
        return Err(Error::new(Reason::Expired, format!("the certificate of {} has expired", leaf.id)));
    }
    Ok(Peer { id: Some(leaf.id.clone()), sni, alpn, not_after: Some(leaf.not_after), resumed })
}
