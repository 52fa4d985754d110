//! The certificate, its key and the roots on disk, so that a sidecar that starts while the control plane is away has an
//! identity.
//!
//! One file, mode 0600, replaced whole: a header with counts, then PEM. What is not complete is not used.

use super::{PrivateKey, Signed};
use crate::{
    disk,
    tls::{Bundle, Credentials},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    fmt::Write,
    io,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use weir_config::model::TrustDomain;
use zeroize::Zeroizing;

const MAGIC: &str = "weir-identity 1";
/// Far above a key, a chain and sixteen roots.
const LIMIT: u64 = 256 * 1024;

/// The file.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

/// What was kept.
#[derive(Debug)]
pub struct Kept {
    /// Certificate and key.
    pub credentials: Credentials,
    /// Its roots.
    pub bundle: Bundle,
    /// When the certificate was received.
    pub received: SystemTime,
}

impl Store {
    /// At this path.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Keeps an identity.
    ///
    /// # Errors
    /// The system's.
    pub fn save(
        &self,
        key: &PrivateKey,
        chain: &[CertificateDer<'_>],
        bundle: &Bundle,
        received: SystemTime,
    ) -> io::Result<()> {
        let seconds = received.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Enough room from the start, so that growing leaves no copy of the key behind.
        let mut text = Zeroizing::new(String::with_capacity(64 * 1024));
        let _ = writeln!(text, "{MAGIC}\ndomain {}\nreceived {seconds}", bundle.domain());
        let _ = writeln!(text, "chain {}\nroots {}", chain.len(), bundle.roots().len());
        pem(&mut text, "PRIVATE KEY", key.pkcs8());
        for certificate in chain.iter().chain(bundle.roots()) {
            pem(&mut text, "CERTIFICATE", certificate);
        }
        disk::write_private(&self.path, text.as_bytes())
    }

    /// What was kept, if anything. A file that is damaged or foreign is said so and taken for none.
    pub fn load(&self) -> Option<Kept> {
        let content = match disk::read_private(&self.path, LIMIT) {
            Ok(content) => content?,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the kept identity cannot be read");
                return None;
            }
        };
        let kept = parse(&content);
        if kept.is_none() {
            tracing::warn!(path = %self.path.display(), "the kept identity is damaged; a new one is asked for");
        }
        kept
    }
}

impl Kept {
    /// Whether it can be used at this time.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        let leaf = self.credentials.leaf();
        leaf.not_before <= now && now < leaf.not_after
    }
}

fn pem(text: &mut String, label: &str, der: &[u8]) {
    let body = Zeroizing::new(BASE64_STANDARD.encode(der));
    let _ = writeln!(text, "-----BEGIN {label}-----");
    for line in body.as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", std::str::from_utf8(line).unwrap_or_default());
    }
    let _ = writeln!(text, "-----END {label}-----");
}

fn parse(content: &[u8]) -> Option<Kept> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.lines();
    if lines.next()? != MAGIC {
        return None;
    }
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    let domain: TrustDomain = field("domain")?.parse().ok()?;
    let received = UNIX_EPOCH.checked_add(Duration::from_secs(field("received")?.parse().ok()?))?;
    let (chain, roots): (usize, usize) = (field("chain")?.parse().ok()?, field("roots")?.parse().ok()?);
    let key = PrivatePkcs8KeyDer::from_pem_slice(content).ok()?;
    let key = PrivateKey::from_pkcs8(Zeroizing::new(key.secret_pkcs8_der().to_vec())).ok()?;
    let mut certificates: Vec<_> = CertificateDer::pem_slice_iter(content).collect::<Result<_, _>>().ok()?;
    if chain == 0 || certificates.len() != chain.checked_add(roots)? {
        return None;
    }
    let bundle = Bundle::new(domain, certificates.split_off(chain)).ok()?;
    let credentials = Credentials::new(certificates, key.pkcs8()).ok()?;
    Some(Kept { credentials, bundle, received })
}

/// For the first write after signing: the roots that came with the answer, where no bundle is known yet.
pub(super) fn bundle_of(signed: &Signed, domain: &TrustDomain) -> Option<Bundle> {
    Bundle::new(domain.clone(), signed.roots.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, Wish, id};

    #[test]
    fn an_identity_survives_on_disk_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("identity.pem"));
        assert!(store.load().is_none());
        let authority = Authority::new("root");
        let key = PrivateKey::generate().unwrap();
        let leaf = authority.sign(&Wish::of(&id("web")), &key);
        let received = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        store.save(&key, &[leaf], &authority.bundle(), received).unwrap();
        let kept = store.load().unwrap();
        assert_eq!(kept.credentials.leaf().id, id("web"));
        assert_eq!((kept.received, &kept.bundle), (received, &*authority.bundle()));
        assert!(kept.is_valid(SystemTime::now()));
        assert!(!kept.is_valid(SystemTime::now() + Duration::from_secs(7200)));

        let whole = std::fs::read(folder.path().join("identity.pem")).unwrap();
        for cut in (0..whole.len() - 1).step_by(7) {
            assert!(parse(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for at in (0..whole.len()).step_by(31) {
            let mut odd = whole.clone();
            odd[at] = b'~';
            let _ = parse(&odd); // whatever it is, it must not panic
        }
    }
}
