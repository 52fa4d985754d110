//! Verification of the other end, the same on both sides: chain, time, purpose, one SPIFFE identity, trust domain.
//!
//! Which identities a caller accepts is asked after the handshake (`client`), since it depends on the destination and
//! not on the configuration; whether the certificate is still in its time is asked again there, since a resumed session
//! does not pass here. A chain that was verified before is not verified again (`known`).

use super::{
    Bundle, Leaf,
    known::{Known, Purpose},
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use webpki::EndEntityCert;

/// Checks a peer's certificate against a bundle.
#[derive(Debug)]
pub(super) struct Verifier {
    bundle: Arc<Bundle>,
    algorithms: WebPkiSupportedAlgorithms,
    known: Arc<Known>,
    /// On the server side: whether a client without a certificate is refused in the handshake.
    required: bool,
}

impl Verifier {
    /// `known`: of this bundle.
    pub(super) fn new(
        bundle: Arc<Bundle>,
        algorithms: WebPkiSupportedAlgorithms,
        known: Arc<Known>,
        required: bool,
    ) -> Self {
        Self { bundle, algorithms, known, required }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).collect();
        if self.known.is_good(&chain, purpose, SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())) {
            return Ok(());
        }
        let (algorithms, anchors) = (self.algorithms.all, self.bundle.anchors());
        EndEntityCert::try_from(leaf)
            .and_then(|cert| {
                let usage = purpose.usage();
                cert.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None).map(drop)
            })
            .map_err(certificate_error)?;
        let leaf = Leaf::parse(leaf)?;
        if leaf.id.trust_domain() != self.bundle.domain().as_str() {
            return Err(CertificateError::NotValidForName.into());
        }
        self.known.add(&chain, purpose, leaf);
        Ok(())
    }

    fn verify_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, now, Purpose::Server).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// None: every sidecar has one certificate and shows it; names of roots would only make the handshake longer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates, now, Purpose::Client).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The configurations offer TLS 1.3 only, so this is never asked; an answer must be no.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken between sidecars".into())
}

fn certificate_error(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let kind = match error {
        E::CertExpired { .. } | E::InvalidCertValidity => CertificateError::Expired,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        // A wrong signature in the chain: signed by somebody who only bears our root's name.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(kind)
}
