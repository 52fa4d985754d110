//! The certificate authority in a rotation: who trusts what in each phase.

use super::{rotation::Phase, *};
use crate::store::Memory;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::UnixTime,
};
use rustls_pki_types::{ServerName, pem::PemObject};

const HOUR: Duration = Duration::from_secs(3600);

/// Whether one who trusts these roots takes the control plane for what it is.
fn trusted(roots: &[CertificateDer<'static>], serving: &Serving, now: SystemTime) -> bool {
    let mut store = RootCertStore::empty();
    roots.iter().for_each(|root| store.add(root.clone()).unwrap());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
    let name = ServerName::try_from("weir-control-plane").unwrap();
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(&serving.chain[0], &serving.chain[1..], &name, &[], now).is_ok()
}

fn serving(ca: &Ca, now: SystemTime) -> Serving {
    ca.serving(&["weir-control-plane".to_owned()], HOUR, now).unwrap()
}

fn sign(ca: &Ca, now: SystemTime) -> Result<Issued, Error> {
    let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    ca.sign(&csr, &"spiffe://weir.local/ns/demo/sa/web".parse().unwrap(), HOUR, now)
}

#[test]
fn who_trusts_the_old_root_only_trusts_the_new_issuer_until_the_old_root_goes() {
    let (store, now) = (Memory::default(), SystemTime::now());
    let ca = Ca::open(Source::Own, &store, now).unwrap();
    let old = ca.roots().borrow().to_vec();
    let issuer = ca.issuer();
    ca.rotate(&store, false, now).unwrap();
    assert_eq!((ca.issuer(), ca.roots().borrow().len()), (issuer.clone(), 2), "the old one signs");
    assert_eq!(ca.roots().borrow()[0], old[0]);
    ca.change(&store, |kept| Ok(kept.advance(0).unwrap())).unwrap();
    assert_ne!(ca.issuer(), issuer);
    assert_eq!(ca.roots().borrow()[1], old[0], "the issuer's root is first");
    let both = ca.roots().borrow().to_vec();
    let shown = serving(&ca, now);
    assert!(trusted(&old, &shown, now), "the old root vouches for the new one");
    assert!(trusted(&both[..1], &shown, now) && trusted(&both, &shown, now));
    assert_eq!(sign(&ca, now).unwrap().chain.len(), 2);
    let leaf = CertificateDer::from_pem_slice(sign(&ca, now).unwrap().chain[0].as_bytes()).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let id = leaf.extensions().iter().find_map(|e| match e.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
        _ => None,
    });
    let hex: String = id.unwrap().0.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, ca.issuer(), "what a sidecar reports is what it is compared with");

    ca.change(&store, |kept| Ok(kept.advance(0).unwrap())).unwrap();
    let shown = serving(&ca, now);
    assert_eq!(shown.chain.len(), 1);
    assert!(!trusted(&old, &shown, now), "it is over");
    assert_eq!(ca.kept().unwrap().rotation.unwrap().phase, Phase::Retiring);
}

#[test]
fn another_replica_takes_over_what_is_kept() {
    let (store, now) = (Memory::default(), SystemTime::now());
    let (a, b) = (Ca::open(Source::Own, &store, now).unwrap(), Ca::open(Source::Own, &store, now).unwrap());
    assert_eq!(a.acts_on(), b.acts_on());
    a.rotate(&store, false, now).unwrap();
    assert_ne!(a.acts_on(), b.acts_on());
    assert!(b.refresh(&store).unwrap() && !b.refresh(&store).unwrap());
    assert_eq!(a.acts_on(), b.acts_on());
    assert_eq!(roots_id(&a.roots().borrow()), roots_id(&b.roots().borrow()));
    assert!(matches!(b.rotate(&store, false, now), Err(Refusal::No(why)) if why.contains("under way")));
    let later = Ca::open(Source::Own, &store, now).unwrap();
    assert_eq!(later.acts_on(), a.acts_on());
}

#[test]
fn an_expired_issuer_signs_nothing_says_what_to_do_and_can_be_exchanged() {
    let (store, now) = (Memory::default(), SystemTime::now());
    let ca = Ca::open_with(Source::Own, HOUR, &store, now).unwrap();
    let (old, later) = (ca.roots().borrow().to_vec(), now + 2 * HOUR);
    let error = sign(&ca, later).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired);
    assert!(error.status().message().contains("`weir rotate-anchor`"), "{error}");
    assert!(trusted(&old, &serving(&ca, later), later), "sidecars can still be told");
    let again = Ca::open_with(Source::Own, HOUR, &store, later).unwrap();
    again.rotate(&store, false, later).unwrap();
    assert_eq!(again.kept().unwrap().rotation.unwrap().phase, Phase::Renewing);
    assert_eq!(sign(&again, later).unwrap().chain.len(), 2);
    assert!(trusted(&old, &serving(&again, later), later));
}

#[test]
fn files_that_are_replaced_are_trusted_before_they_sign_and_the_old_ones_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // cert-manager's names.
    let write = || {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "issuer");
        let certificate = params.self_signed(&key).unwrap().pem();
        std::fs::write(path("tls.crt"), &certificate).unwrap();
        std::fs::write(path("ca.crt"), &certificate).unwrap();
        std::fs::write(path("tls.key"), key.serialize_pem()).unwrap();
    };
    write();
    let source = Source::Files { certificate: path("tls.crt"), key: path("tls.key"), roots: Some(path("ca.crt")) };
    let (store, now) = (Memory::default(), SystemTime::now());
    let ca = Ca::open(source, &store, now).unwrap();
    let (old, issuer) = (ca.roots().borrow()[0].clone(), ca.issuer());
    assert!(matches!(ca.rotate(&store, false, now), Err(Refusal::No(why)) if why.contains("tls.crt")));
    write();
    assert!(ca.reload(now).unwrap());
    assert_eq!((ca.issuer(), ca.roots().borrow().len()), (issuer.clone(), 2), "trusted, and not signing yet");
    assert_eq!(ca.roots().borrow()[0], old);
    assert!(!ca.reload(now + files::SPREAD / 2).unwrap());
    assert!(ca.reload(now + files::SPREAD).unwrap());
    assert_ne!(ca.issuer(), issuer);
    assert_eq!((ca.roots().borrow().len(), &ca.roots().borrow()[1]), (2, &old), "still trusted, and no longer first");
    assert!(!ca.reload(now + 2 * files::SPREAD).unwrap());
    let later = now + files::SPREAD + 25 * HOUR;
    assert!(ca.reload(later).unwrap());
    assert_eq!(ca.roots().borrow().len(), 1, "what was signed under it is over");
}
