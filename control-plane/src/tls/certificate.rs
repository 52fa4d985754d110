//! Our own certificate, renewed on time, and the check of clients' certificates against the roots of the moment.

use crate::ca::{Ca, Error, ErrorKind};
use arc_swap::ArcSwap;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// After an error a renewal is tried again so soon.
const RETRY: Duration = Duration::from_secs(5);

/// Our own certificate.
#[derive(Debug)]
pub(super) struct Own {
    names: Vec<String>,
    lifetime: Duration,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
}

impl Own {
    /// A first certificate.
    pub(super) fn new(ca: &Ca, names: Vec<String>, lifetime: Duration, now: SystemTime) -> Result<Arc<Self>, Error> {
        let current = issue(ca, &names, lifetime, now)?;
        Ok(Arc::new(Self { names, lifetime, current: ArcSwap::from_pointee(current) }))
    }

    /// Renews after two thirds of each certificate's life, and at once when the roots change.
    pub(super) async fn renew(self: Arc<Self>, ca: Arc<Ca>, stop: CancellationToken) {
        {
            let mut roots = ca.roots();
            let mut failed = false;
            loop {
                let left = self.current.load().not_after.duration_since(SystemTime::now()).unwrap_or_default();
                let wait = if failed { RETRY } else { left.saturating_sub(self.lifetime / 3) };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    changed = roots.changed() => if changed.is_err() { return },
                    () = stop.cancelled() => return,
                }
                match issue(&ca, &self.names, self.lifetime, SystemTime::now()) {
                    Ok(new) => {
                        // The issuer's own end may be near: never spin.
                        failed = new.not_after <= self.current.load().not_after;
                        self.current.store(Arc::new(new));
                    }
                    Err(error) => {
                        failed = true;
                        tracing::error!(%error, "the control plane's own certificate cannot be renewed");
                    }
                }
            }
        }
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

fn issue(ca: &Ca, names: &[String], lifetime: Duration, now: SystemTime) -> Result<Current, Error> {
    let serving = ca.serving(names, lifetime, now)?;
    let key = CertifiedKey::from_der(serving.chain, serving.key, &aws_lc_rs::default_provider())
        .map_err(|e| Error::new(ErrorKind::Root, format!("the serving certificate cannot be used: {e}")))?;
    Ok(Current { key: Arc::new(key), not_after: serving.not_after })
}

/// Checks clients' certificates against the roots of the moment.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    ca: Arc<Ca>,
    current: ArcSwap<(Vec<CertificateDer<'static>>, Arc<dyn ClientCertVerifier>)>,
}

impl ClientVerifier {
    /// For the roots of an authority.
    pub(super) fn new(ca: &Arc<Ca>) -> Result<Self, Error> {
        let roots = ca.roots().borrow().to_vec();
        let verifier = verifier(&roots)?;
        Ok(Self { ca: Arc::clone(ca), current: ArcSwap::from_pointee((roots, verifier)) })
    }

    fn current(&self) -> Arc<dyn ClientCertVerifier> {
        let roots = Arc::clone(&self.ca.roots().borrow());
        let current = self.current.load();
        if current.0 != *roots
            && let Ok(new) = verifier(&roots)
        {
            self.current.store(Arc::new((roots.to_vec(), Arc::clone(&new))));
            return new;
        }
        Arc::clone(&current.1)
    }
}

fn verifier(roots: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let bad = |e: String| Error::new(ErrorKind::Root, format!("the roots cannot be used: {e}"));
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|e| bad(e.to_string()))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).allow_unauthenticated();
    builder.build().map_err(|e| bad(e.to_string()))
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Roots change while we run, and a client has one certificate to offer: no hints.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current().verify_client_cert(leaf, chain, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}
