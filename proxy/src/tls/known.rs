//! Chains of certificates that were verified before: whoever connects again is not verified again.
//!
//! Whether a chain is good depends on its bytes, the bundle, what it is used for and the time, and on nothing else (a
//! mesh's certificates are short-lived, there are no lists of revoked ones). Each configuration begins with nothing known,
//! so the bundle is always the one that they were verified with; the time is looked at again. That the peer holds the key
//! is proven in each handshake, here as everywhere. It saves a full handshake one of its three signatures, and those come
//! in crowds: everyone connects again at once, many streams need a connection each.

use super::{Leaf, leaf};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};
use webpki::KeyUsage;

/// So many are remembered; of more the oldest is forgotten.
const MOST: usize = 1024;

/// What a certificate is to be good for (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The other end calls us.
    Client,
    /// We call the other end.
    Server,
}

impl Purpose {
    pub(super) fn usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }
}

/// The chains that were found to be good by one configuration.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    chains: HashMap<Key, Chain>,
    /// In the order of their coming.
    order: VecDeque<Key>,
}

/// A chain's digest and purpose: a few bytes, however large its certificates are.
type Key = [u8; blake3::OUT_LEN];

#[derive(Debug, Clone)]
struct Chain {
    leaf: Arc<Leaf>,
    /// When all of its certificates are in their time.
    from: SystemTime,
    until: SystemTime,
}

impl Known {
    /// Whether this chain was verified before and is still in its time.
    pub(super) fn is_good(&self, chain: &[&CertificateDer<'_>], purpose: Purpose, now: SystemTime) -> bool {
        self.0.lock().chains.get(&key(chain, purpose)).is_some_and(|known| known.from <= now && now < known.until)
    }

    /// It has been verified.
    pub(super) fn add(&self, chain: &[&CertificateDer<'_>], purpose: Purpose, leaf: Leaf) {
        let (mut from, mut until) = (leaf.not_before, leaf.not_after);
        for issuer in chain.iter().skip(1) {
            // What cannot be read was of no use for the verification, and might be for the next.
            let Some((begin, end)) = leaf::life(issuer) else { return };
            (from, until) = (from.max(begin), until.min(end));
        }
        let key = key(chain, purpose);
        let mut entries = self.0.lock();
        if entries.chains.insert(key, Chain { leaf: Arc::new(leaf), from, until }).is_none() {
            entries.order.push_back(key);
        }
        if entries.order.len() > MOST
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.chains.remove(&oldest);
        }
    }

    /// What its first certificate says, if it was verified before.
    pub(super) fn leaf(&self, chain: &[CertificateDer<'_>], purpose: Purpose) -> Option<Arc<Leaf>> {
        let chain: Vec<_> = chain.iter().collect();
        self.0.lock().chains.get(&key(&chain, purpose)).map(|known| known.leaf.clone())
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.0.lock().chains.len()
    }
}

fn key(chain: &[&CertificateDer<'_>], purpose: Purpose) -> Key {
    let mut digest = blake3::Hasher::new();
    digest.update(&[purpose as u8]);
    for certificate in chain {
        digest.update(&certificate.len().to_be_bytes()).update(certificate);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Bundle, testing::*, verify::Verifier},
        *,
    };
    use rustls::{
        CertificateError, Error, client::danger::ServerCertVerifier, crypto::aws_lc_rs::default_provider,
        server::danger::ClientCertVerifier,
    };
    use rustls_pki_types::{ServerName, UnixTime};
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn verifier(bundle: Arc<Bundle>) -> (Verifier, Arc<Known>) {
        let known = Arc::<Known>::default();
        let algorithms = default_provider().signature_verification_algorithms;
        (Verifier::new(bundle, algorithms, known.clone(), true), known)
    }

    fn as_client(verifier: &Verifier, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Error> {
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify_client_cert(&chain[0], &chain[1..], now).map(drop)
    }

    fn as_server(verifier: &Verifier, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let name = ServerName::try_from("any").unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn what_was_verified_is_not_verified_again() {
        let authority = Authority::new("root");
        let (verifier, known) = verifier(authority.bundle());
        let now = SystemTime::now();
        let (chain, _) = authority.issue(&Wish::of(&id("web")));
        as_client(&verifier, &chain, now).unwrap();
        assert_eq!(known.leaf(&chain, Purpose::Client).unwrap().id, id("web"));
        // A chain that is not good, and is known: it is not looked at.
        let (bad, _) = Authority::new("another").issue(&Wish::of(&id("web")));
        as_client(&verifier, &bad, now).unwrap_err();
        assert!(known.leaf(&bad, Purpose::Client).is_none(), "what is not good is not remembered");
        known.add(&[&bad[0]], Purpose::Client, Leaf::parse(&bad[0]).unwrap());
        as_client(&verifier, &bad, now).unwrap();
        assert!(as_server(&verifier, &bad).is_err(), "good for a caller, not for whom we call");
        assert!(as_client(&verifier, &[bad[0].clone(), chain[0].clone()], now).is_err(), "another chain");
    }

    #[test]
    fn what_is_known_is_refused_when_its_time_is_over() {
        let authority = Authority::new("root");
        let (verifier, _) = verifier(authority.bundle());
        let now = SystemTime::now();
        let (chain, _) = authority.issue(&Wish::of(&id("web")).life(now - HOUR, now + HOUR));
        as_client(&verifier, &chain, now).unwrap();
        for (when, wrong) in
            [(now + 2 * HOUR, CertificateError::Expired), (now - 2 * HOUR, CertificateError::NotValidYet)]
        {
            assert_eq!(as_client(&verifier, &chain, when), Err(Error::InvalidCertificate(wrong)));
        }
    }

    #[test]
    fn a_chain_is_good_while_all_of_it_is_in_its_time() {
        let (authority, now) = (Authority::new("root"), SystemTime::now());
        let (leaf, _) = authority.issue(&Wish::of(&id("web")).life(now - 3 * HOUR, now + 3 * HOUR));
        let (issuer, _) = authority.issue(&Wish::of(&id("ca")).life(now - HOUR, now + HOUR));
        let known = Known::default();
        let chain = [&leaf[0], &issuer[0]];
        known.add(&chain, Purpose::Server, Leaf::parse(&leaf[0]).unwrap());
        let good = |when| known.is_good(&chain, Purpose::Server, when);
        assert_eq!([now - 2 * HOUR, now, now + 2 * HOUR].map(good), [false, true, false]);
    }

    #[test]
    fn of_too_many_the_oldest_is_forgotten() {
        let (authority, known) = (Authority::new("root"), Known::default());
        let (chain, _) = authority.issue(&Wish::of(&id("web")));
        let leaf = Leaf::parse(&chain[0]).unwrap();
        let other = |n: usize| CertificateDer::from(n.to_be_bytes().to_vec());
        for n in 0..MOST + 10 {
            known.add(&[&other(n)], Purpose::Client, leaf.clone());
            known.add(&[&other(n)], Purpose::Client, leaf.clone());
        }
        assert_eq!((known.len(), known.0.lock().order.len()), (MOST, MOST));
        let is_known = |n| known.leaf(&[other(n)], Purpose::Client).is_some();
        assert_eq!([0, 9, 10, MOST + 9].map(is_known), [false, false, true, true]);
    }
}
