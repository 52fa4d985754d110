//! The certificate authority: who a workload is, proven and signed.
//!
//! The identity in a certificate always comes from what the caller has proven (a join token, or a certificate it still
//! holds), never from what its signing request asks for. The issuing key is made at the first start and kept in the
//! store, or is given as files; it never leaves this process.

mod error;
mod peer;
mod review;
mod root;
pub mod service;
mod sign;
#[cfg(test)]
mod tests;
pub mod token;

pub use error::{Error, ErrorKind};
pub use peer::{Peer, spiffe_id};
pub use review::Reviews;
pub use root::Source;
pub use sign::Issued;

use crate::store::{MetaExpect, Store};
use arc_swap::ArcSwap;
use root::Root;
use rustls_pki_types::CertificateDer;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use weir_config::model::{ResourceName, SpiffeId, TrustBundle, TrustDomain};

/// The name of the mesh's trust bundle, as the sidecars ask for it.
pub const BUNDLE: &str = "ROOTCA";
/// The longest life of a workload's certificate.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// The shortest.
pub const MIN_LIFETIME: Duration = Duration::from_secs(5);

/// Where secrets of the control plane are kept: the key-value space of the store. Calls may wait for a disk.
pub trait Vault: Send + Sync {
    /// What is kept under a name.
    ///
    /// # Errors
    /// The store's, in words.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String>;

    /// Keeps a value unless there is one; of several who make the first, one wins. Gives what is kept afterwards.
    ///
    /// # Errors
    /// The store's, in words.
    fn keep(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, String>;
}

impl<S: Store + ?Sized> Vault for S {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.meta(name).map_err(|e| e.to_string())
    }

    fn keep(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        if let Err(error) = self.set_meta(name, MetaExpect::Absent, Some(value)) {
            // Somebody was faster, or the store failed: then there is nothing to read.
            return self.read(name)?.ok_or_else(|| error.to_string());
        }
        Ok(value.to_vec())
    }
}

/// The roots that vouch for the mesh's identities: DER certificates.
pub type Roots = Vec<CertificateDer<'static>>;

/// The certificate authority.
#[derive(Debug)]
pub struct Ca {
    source: Source,
    root: ArcSwap<Root>,
    roots: watch::Sender<Arc<Roots>>,
}

impl Ca {
    /// Opens the authority: its own root, made at the first start and kept in `vault`, or the given files.
    ///
    /// # Errors
    /// The store or a file cannot be read, or what is in it is no issuing certificate with its key.
    pub fn open(source: Source, vault: &dyn Vault, now: SystemTime) -> Result<Arc<Self>, Error> {
        let (root, roots) = root::open(&source, vault, now)?;
        Ok(Arc::new(Self { source, root: ArcSwap::from_pointee(root), roots: watch::Sender::new(Arc::new(roots)) }))
    }

    /// Reads given files again: a new issuing certificate, or more roots. Nothing changes on an error, or if the root is
    /// our own.
    ///
    /// # Errors
    /// As `open`.
    pub fn reload(&self, now: SystemTime) -> Result<bool, Error> {
        let Source::Files { .. } = &self.source else { return Ok(false) };
        let (root, roots) = root::from_files(&self.source, now)?;
        let changed = **self.roots.borrow() != roots || self.root.load().chain != root.chain;
        if changed {
            // First the roots, so that nothing is signed that the bundle does not vouch for.
            self.roots.send_replace(Arc::new(roots));
            self.root.store(Arc::new(root));
        }
        Ok(changed)
    }

    /// Signs a request for an identity that the caller has proven.
    ///
    /// # Errors
    /// The request cannot be read, its signature is wrong, or its key is of a kind we do not sign.
    pub fn sign(&self, csr: &str, who: &SpiffeId, lifetime: Duration, now: SystemTime) -> Result<Issued, Error> {
        sign::workload(&self.root.load(), csr, who, lifetime, now)
    }

    /// A certificate and key for the control plane's own port, valid for these DNS names and addresses.
    ///
    /// # Errors
    /// A name is neither.
    pub fn serving(&self, names: &[String], lifetime: Duration, now: SystemTime) -> Result<sign::Serving, Error> {
        sign::serving(&self.root.load(), names, lifetime, now)
    }

    /// The roots, and their changes.
    pub fn roots(&self) -> watch::Receiver<Arc<Roots>> {
        self.roots.subscribe()
    }

    /// The roots as PEM, for people and for a sidecar's first connection.
    pub fn roots_pem(&self) -> String {
        self.roots.borrow().iter().map(|der| root::pem("CERTIFICATE", der)).collect()
    }

    /// The trust bundle as a resource.
    pub fn bundle(&self, trust_domain: TrustDomain) -> TrustBundle {
        let roots = self.roots.borrow().iter().map(|der| der.to_vec()).collect();
        TrustBundle { name: ResourceName::from(BUNDLE), trust_domain, roots }
    }

    /// When the issuing certificate ends.
    pub fn expires(&self) -> SystemTime {
        self.root.load().not_after
    }
}
