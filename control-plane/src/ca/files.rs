//! An issuing key that others write as files, and may replace at any time: what is trusted meanwhile.
//!
//! Whoever replaces the files knows nothing of proxies. So a new root is trusted for a while before anything is signed
//! under it (replicas see new files at different moments, proxies hear of it a moment later), and one that has left the
//! files is trusted until what was signed under it is over.

use super::Roots;
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime};

/// So long a new root is trusted before it signs: a kubelet brings changed files within some 60 to 90 seconds.
pub(super) const SPREAD: Duration = Duration::from_secs(90);

/// The roots that are or were in the files.
#[derive(Debug, Default)]
pub(super) struct Trusted(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    root: CertificateDer<'static>,
    /// Since when it is trusted.
    since: SystemTime,
    /// It has left the files, and is trusted until then.
    until: Option<SystemTime>,
}

impl Trusted {
    /// What was there at the start has always been trusted.
    pub(super) fn new(roots: &Roots) -> Self {
        let entry =
            |root: &CertificateDer<'static>| Entry { root: root.clone(), since: SystemTime::UNIX_EPOCH, until: None };
        Self(roots.iter().map(entry).collect())
    }

    /// The files have these roots now; one that leaves is trusted for `retain`.
    pub(super) fn see(&mut self, roots: &Roots, retain: Duration, now: SystemTime) {
        for root in roots {
            if !self.0.iter().any(|e| e.root == *root) {
                self.0.push(Entry { root: root.clone(), since: now, until: None });
            }
        }
        for entry in &mut self.0 {
            match roots.contains(&entry.root) {
                true => entry.until = None,
                false => drop(entry.until.get_or_insert(now + retain)),
            }
        }
        self.0.retain(|e| e.until.is_none_or(|until| now < until));
        // The oldest that have left go first, should somebody replace the files all the time.
        while self.0.len() > super::root::MAX_ROOTS {
            let oldest = self.0.iter().position(|e| e.until.is_some()).unwrap_or(0);
            self.0.remove(oldest);
        }
    }

    /// Whether something may be signed under a root.
    pub(super) fn may_sign(&self, root: &CertificateDer<'_>, now: SystemTime) -> bool {
        let entry = self.0.iter().find(|e| e.root == *root);
        entry.is_some_and(|e| now.duration_since(e.since).is_ok_and(|trusted| trusted >= SPREAD))
    }

    /// All of them, the one that signs first.
    pub(super) fn roots(&self, first: &CertificateDer<'static>) -> Roots {
        let rest = self.0.iter().map(|e| &e.root).filter(|root| *root != first);
        std::iter::once(first).chain(rest).cloned().collect()
    }
}
