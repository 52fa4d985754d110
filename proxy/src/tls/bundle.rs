//! The roots that vouch for identities of the mesh. Several while a root is being rotated.

use super::leaf;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::fmt;
use weir_config::model::{TrustBundle, TrustDomain};

/// A trust bundle, ready to verify with.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Bundle {
    /// # Errors
    /// If there is no root, or one is not a certificate.
    pub fn new(domain: TrustDomain, roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        let anchors = roots
            .iter()
            .map(|der| webpki::anchor_from_trusted_cert(der).map(|a| a.to_owned()).map_err(BundleError::Root))
            .collect::<Result<Vec<_>, _>>()?;
        if anchors.is_empty() {
            return Err(BundleError::Empty);
        }
        Ok(Self { domain, roots, anchors })
    }

    /// From what the control plane sent.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_model(bundle: &TrustBundle) -> Result<Self, BundleError> {
        Self::new(bundle.trust_domain.clone(), bundle.roots.iter().cloned().map(CertificateDer::from).collect())
    }

    /// Whose identities it vouches for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root certificates.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whether a chain (end-entity first) leads to another root than the first one. A control plane puts the root of its
    /// present issuer first: who still shows a certificate of an older one is to renew it. Certificates that do not name
    /// keys are let be.
    pub fn supersedes(&self, chain: &[CertificateDer<'static>]) -> bool {
        let first = self.roots.first().map(|root| leaf::key_of(root)).unwrap_or_default();
        let issuers: Vec<_> = chain.iter().map(|c| leaf::issuer_of(c)).collect();
        !first.is_empty() && issuers.iter().all(|issuer| !issuer.is_empty()) && !issuers.contains(&first)
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle({}, {} roots)", self.domain, self.roots.len())
    }
}

/// Why a bundle is none.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// No root.
    #[error("the trust bundle has no root certificate")]
    Empty,
    /// A root that cannot be read.
    #[error("a root of the trust bundle is not a certificate: {0}")]
    Root(webpki::Error),
}
