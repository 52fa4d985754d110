//! What this sidecar shows of itself: its certificate chain and the key that signs for it.

use super::Leaf;
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{fmt, sync::Arc};

/// A certificate chain and its key, ready to sign with. The key's bytes are not kept.
#[derive(Clone)]
pub struct Credentials {
    leaf: Leaf,
    certified: Arc<CertifiedKey>,
}

impl Credentials {
    /// `chain`: end-entity certificate first, without the root. `pkcs8`: the private key in PKCS #8 DER, not kept.
    ///
    /// # Errors
    /// If the first certificate is no X509-SVID, or the key is not its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, pkcs8: &[u8]) -> Result<Self, CredentialsError> {
        let leaf = Leaf::parse(chain.first().ok_or(CredentialsError::Empty)?).map_err(CredentialsError::Certificate)?;
        let key = any_supported_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))
            .map_err(CredentialsError::Key)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(CredentialsError::Key)?;
        Ok(Self { leaf, certified: Arc::new(certified) })
    }

    /// Who we are, and how long.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The certificates, end-entity first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

/// Why a chain and a key make no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No certificate.
    #[error("the certificate chain is empty")]
    Empty,
    /// The first certificate carries no identity.
    #[error("the certificate carries no SPIFFE identity: {0:?}")]
    Certificate(rustls::CertificateError),
    /// The key cannot be read or is another's.
    #[error("the key does not fit the certificate: {0}")]
    Key(rustls::Error),
}
