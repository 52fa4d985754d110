//! The certificate authority: who a workload is, proven and signed.
//!
//! The identity in a certificate always comes from what the caller has proven (a join token, or a certificate it still
//! holds), never from what its signing request asks for. The issuing key is made at the first start and kept in the
//! store, or is given as files; it never leaves this process.

mod error;
mod files;
pub mod kept;
mod peer;
mod review;
mod root;
pub mod rotation;
#[cfg(test)]
mod rotation_tests;
pub mod service;
mod sign;
#[cfg(test)]
mod tests;
pub mod token;

pub use error::{Error, ErrorKind};
pub use peer::{Peer, spiffe_id};
pub use review::Reviews;
pub use root::{LIFE as ROOT_LIFE, Source};
pub use sign::{Issued, Serving};

use crate::store::{self, MetaExpect, Store};
use arc_swap::ArcSwap;
use kept::{KEPT_AT, Kept};
use parking_lot::Mutex;
use root::Root;
use rustls_pki_types::CertificateDer;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use weir_config::model::{ResourceName, SpiffeId, TrustBundle, TrustDomain};

/// The name of the mesh's trust bundle, as the sidecars ask for it.
pub const BUNDLE: &str = "ROOTCA";
/// The longest life of a workload's certificate.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// So long certificates live where nothing is said.
const USUAL_LIFETIME: Duration = Duration::from_secs(24 * 3600);
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

    /// Replaces a value by another one, if it is still that; whether it was.
    ///
    /// # Errors
    /// The store's, in words.
    fn replace(&self, name: &str, old: &[u8], new: &[u8]) -> Result<bool, String>;
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

    fn replace(&self, name: &str, old: &[u8], new: &[u8]) -> Result<bool, String> {
        match self.set_meta(name, MetaExpect::Value(old), Some(new)) {
            Ok(()) => Ok(true),
            Err(store::Error::MetaConflict { .. }) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The roots that vouch for the mesh's identities: DER certificates.
pub type Roots = Vec<CertificateDer<'static>>;

/// A word that stands for these roots in this order, equal on all replicas.
pub fn roots_id(roots: &[CertificateDer<'static>]) -> String {
    let mut hash = blake3::Hasher::new();
    for root in roots {
        hash.update(blake3::hash(root).as_bytes());
    }
    hash.finalize().to_hex()[..16].to_owned()
}

/// The certificate authority.
#[derive(Debug)]
pub struct Ca {
    source: Source,
    /// The life of roots that are made.
    life: Duration,
    root: ArcSwap<Root>,
    roots: watch::Sender<Arc<Roots>>,
    /// What is and was in the files; empty: the root is our own.
    files: Mutex<files::Trusted>,
    /// The longest life that was signed, in seconds.
    longest: AtomicU64,
    /// What the store keeps, as it was when it was last taken in; held while it is. Empty: the root is not our own.
    kept: Mutex<Vec<u8>>,
}

/// Why a rotation is not changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It makes no sense now; in words.
    #[error("{0}")]
    No(String),
    /// It cannot be done.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Ca {
    /// Opens the authority: its own root, made at the first start and kept in `vault`, or the given files.
    ///
    /// # Errors
    /// The store or a file cannot be read, or what is in it is no issuing certificate with its key.
    pub fn open(source: Source, vault: &dyn Vault, now: SystemTime) -> Result<Arc<Self>, Error> {
        Self::open_with(source, root::LIFE, vault, now)
    }

    /// The same; roots that are made live so long.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(source: Source, life: Duration, vault: &dyn Vault, now: SystemTime) -> Result<Arc<Self>, Error> {
        let (kept, (root, roots)) = match &source {
            Source::Own => {
                let kept = root::own(vault, life, now)?;
                let opened = root::of_kept(&Kept::decode(&kept)?)?;
                (kept, opened)
            }
            Source::Files { .. } => (Vec::new(), root::from_files(&source)?),
        };
        if root.not_after <= now {
            tracing::error!(remedy = root.remedy, "the issuing certificate has expired: no certificate can be issued");
        }
        let files = match source {
            Source::Own => files::Trusted::default(),
            Source::Files { .. } => files::Trusted::new(&roots),
        };
        Ok(Arc::new(Self {
            files: Mutex::new(files),
            longest: AtomicU64::new(USUAL_LIFETIME.as_secs()),
            source,
            life,
            root: ArcSwap::from_pointee(root),
            roots: watch::Sender::new(Arc::new(roots)),
            kept: Mutex::new(kept),
        }))
    }

    /// Reads given files again: a new issuing certificate, or more roots. Nothing changes on an error, or if the root is
    /// our own.
    ///
    /// # Errors
    /// As `open`, and an issuing certificate that has expired.
    pub fn reload(&self, now: SystemTime) -> Result<bool, Error> {
        let Source::Files { .. } = &self.source else { return Ok(false) };
        let (root, roots) = root::from_files(&self.source)?;
        if root.not_after <= now {
            return Err(Error::new(ErrorKind::Expired, format!("the certificate has expired; {}", root.remedy)));
        }
        let mut files = self.files.lock();
        let retain = Duration::from_secs(self.longest.load(Ordering::Relaxed)) + root::BACKDATED;
        files.see(&roots, retain, now);
        // The first is the one that the issuing certificate leads to.
        let (Some(anchor), Some(present)) = (roots.first(), self.roots.borrow().first().cloned()) else {
            return Ok(false);
        };
        let (issuer, before) = (self.issuer(), self.root.load_full());
        let same = issuer == root.key_id && before.chain == root.chain && before.not_after == root.not_after;
        if !same && (files.may_sign(anchor, now) || before.not_after <= now) {
            self.take(root, files.roots(anchor));
            return Ok(true);
        }
        let trusted = files.roots(&present);
        let changed = **self.roots.borrow() != trusted;
        if changed {
            tracing::info!(roots = trusted.len(), signs_after = ?files::SPREAD, "the roots in the files have changed");
            self.roots.send_replace(Arc::new(trusted));
        }
        Ok(changed)
    }

    /// Reads what the store keeps of our own root: another replica may have changed it.
    ///
    /// # Errors
    /// The store's, or what is kept cannot be used; then everything stays as it was.
    pub fn refresh(&self, vault: &dyn Vault) -> Result<bool, Error> {
        if self.source != Source::Own {
            return Ok(false);
        }
        let store = |e: String| Error::new(ErrorKind::Store, format!("the roots cannot be read: {e}"));
        let mut kept = self.kept.lock();
        // Read while it is held, so that what is taken in never goes back.
        let found = vault.read(KEPT_AT).map_err(store)?.ok_or_else(|| store("they are gone".into()))?;
        if *kept == found {
            return Ok(false);
        }
        let (root, roots) = root::of_kept(&Kept::decode(&found)?)?;
        self.take(root, roots);
        *kept = found;
        Ok(true)
    }

    /// What is kept of our own root, as it was last taken in.
    ///
    /// # Errors
    /// The root is not our own.
    pub fn kept(&self) -> Result<Kept, Refusal> {
        match &self.source {
            Source::Own => Ok(Kept::decode(&self.kept.lock())?),
            Source::Files { certificate, .. } => Err(Refusal::No(format!(
                "the issuing key is not our own but read from {}; whoever writes that file rotates it",
                certificate.display()
            ))),
        }
    }

    /// Changes what is kept, and takes it in. Of several who do so at once, each does it on what the one before left.
    ///
    /// # Errors
    /// `how` says no, or the store does.
    pub fn change(&self, vault: &dyn Vault, how: impl Fn(&Kept) -> Result<Kept, String>) -> Result<Kept, Refusal> {
        let store = |e: String| Error::new(ErrorKind::Store, format!("the roots cannot be kept: {e}"));
        loop {
            self.refresh(vault)?;
            let before = self.kept()?;
            let bytes = self.kept.lock().clone();
            let after = how(&before).map_err(Refusal::No)?;
            if vault.replace(KEPT_AT, &bytes, &after.encode()).map_err(store)? {
                self.refresh(vault)?;
                return Ok(after);
            }
        }
    }

    /// Begins the exchange of our own root for a new one.
    ///
    /// # Errors
    /// One is under way, the root is not our own, or the store says no.
    pub fn rotate(&self, vault: &dyn Vault, hold: bool, now: SystemTime) -> Result<Kept, Refusal> {
        self.kept()?;
        let next = root::successor(&self.root.load(), now, self.life)?;
        let expired = self.expires() <= now;
        self.change(vault, |kept| kept.start(next.clone(), expired, hold, seconds(now)))
    }

    /// A word that is another one whenever what is kept is: replicas with the same word act alike.
    pub fn acts_on(&self) -> String {
        blake3::hash(&self.kept.lock()).to_hex()[..16].to_owned()
    }

    /// The identifier of the key that signs, in hexadecimal digits.
    pub fn issuer(&self) -> String {
        self.root.load().key_id.clone()
    }

    /// First the roots, so that nothing is signed that the bundle does not vouch for.
    fn take(&self, root: Root, roots: Roots) {
        let issuer = root.key_id.clone();
        let added = roots.iter().filter(|r| !self.roots.borrow().contains(r)).count();
        tracing::info!(issuer, roots = roots.len(), added, "roots in use");
        self.roots.send_replace(Arc::new(roots));
        self.root.store(Arc::new(root));
        // Who follows the roots and looked at the issuer in between looks again.
        self.roots.send_modify(|_| {});
    }

    /// Signs a request for an identity that the caller has proven.
    ///
    /// # Errors
    /// The request cannot be read, its signature is wrong, or its key is of a kind we do not sign.
    pub fn sign(&self, csr: &str, who: &SpiffeId, lifetime: Duration, now: SystemTime) -> Result<Issued, Error> {
        self.longest.fetch_max(lifetime.min(MAX_LIFETIME).as_secs(), Ordering::Relaxed);
        sign::workload(&self.root.load(), csr, who, lifetime, now)
    }

    /// A certificate and key for the control plane's own port, valid for these DNS names and addresses.
    ///
    /// # Errors
    /// A name is neither.
    pub fn serving(&self, names: &[String], lifetime: Duration, now: SystemTime) -> Result<Serving, Error> {
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

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
