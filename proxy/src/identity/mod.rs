//! Who this workload is: a key made here, a short-lived certificate for it, and the roots that the mesh trusts.
//!
//! ```text
//! key ──CSR──> ca (CreateCertificate) ──chain──> Identity ──> tls::Contexts
//!                 ^ join token, then the present certificate      └──> cache (0600)
//! renew: at two thirds to four fifths of the life, then quick tries with back-off while the old one is good
//! ```
//! The key never leaves this machine: only its certificate request does.

mod authority;
mod channel;
mod key;
mod renew;
mod store;

pub use authority::{Authority, Remote, SignError, Signed, Token};
pub use channel::{ChannelError, ControlPlane, Roots};
pub use key::{KeyError, PrivateKey};
pub use renew::{Renewal, Wish};
pub use store::{Kept, Store};

use crate::tls::{Bundle, Contexts, Credentials, Leaf};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::{sync::Arc, time::SystemTime};
use tokio::sync::watch;

/// A certificate with its key, in use.
#[derive(Debug, Clone)]
pub struct Current {
    credentials: Credentials,
}

impl Current {
    /// What goes into handshakes.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Who we are, and from when to when.
    pub fn leaf(&self) -> &Leaf {
        self.credentials.leaf()
    }

    /// Whether it is good at this time.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.leaf().not_before <= now && now < self.leaf().not_after
    }
}

/// The identity of this process, shared by all that need it.
#[derive(Debug)]
pub struct Identity {
    current: ArcSwapOption<Current>,
    bundle: ArcSwapOption<Bundle>,
    contexts: Arc<Contexts>,
    /// Held while one of the two changes, so that the TLS configurations are made from a pair that was there together.
    changing: Mutex<()>,
    changes: watch::Sender<u64>,
    last_failure: Mutex<Option<String>>,
}

impl Identity {
    /// Without certificate and bundle yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwapOption::empty(),
            bundle: ArcSwapOption::empty(),
            contexts: Arc::default(),
            changing: Mutex::new(()),
            changes: watch::Sender::new(0),
            last_failure: Mutex::new(None),
        })
    }

    /// The certificate, once there is one. It may have expired.
    pub fn current(&self) -> Option<Arc<Current>> {
        self.current.load_full()
    }

    /// The trust bundle, once there is one.
    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        self.bundle.load_full()
    }

    /// The TLS configurations that follow this identity: give them to `tls::Client` and `tls::Server`.
    pub fn contexts(&self) -> &Arc<Contexts> {
        &self.contexts
    }

    /// Whether there is a certificate in its time, and a bundle.
    pub fn is_ready(&self, now: SystemTime) -> bool {
        self.contexts.is_ready() && self.current.load().as_ref().is_some_and(|c| c.is_valid(now))
    }

    /// Whether the bundle says that certificates are signed by another root than ours is: then it should be renewed.
    pub fn is_superseded(&self) -> bool {
        match (self.current.load_full(), self.bundle.load_full()) {
            (Some(current), Some(bundle)) => bundle.supersedes(current.credentials.chain()),
            _ => false,
        }
    }

    /// Counts the changes of certificate and bundle.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Why a certificate was last asked for in vain; `None` once it has worked again.
    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }

    /// Takes a new certificate into use.
    pub fn set_credentials(&self, credentials: Credentials) {
        let changing = self.changing.lock();
        self.current.store(Some(Arc::new(Current { credentials })));
        *self.last_failure.lock() = None;
        self.rebuild();
        drop(changing);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Takes a new bundle into use. One that equals the present one changes nothing.
    pub fn set_bundle(&self, bundle: Bundle) {
        let changing = self.changing.lock();
        if self.bundle.load().as_deref() == Some(&bundle) {
            return;
        }
        tracing::info!(domain = %bundle.domain(), roots = bundle.roots().len(), "trust bundle in use");
        self.bundle.store(Some(Arc::new(bundle)));
        self.rebuild();
        drop(changing);
        self.changes.send_modify(|n| *n += 1);
    }

    /// The roots that came with the first certificate, until the control plane sends the bundle.
    fn set_bundle_if_none(&self, bundle: &Bundle) {
        if self.bundle.load().is_none() {
            self.set_bundle(bundle.clone());
        }
    }

    fn note_failure(&self, error: &SignError) {
        *self.last_failure.lock() = Some(error.to_string());
    }

    fn rebuild(&self) {
        let (Some(current), Some(bundle)) = (self.current.load_full(), self.bundle.load_full()) else { return };
        if let Err(error) = self.contexts.update(current.credentials(), &bundle) {
            tracing::error!(%error, "TLS configurations could not be made; the old ones stay");
        }
    }
}
