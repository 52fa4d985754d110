//! What is signed, for whom, and what is refused.

use super::{
    service::Certificates,
    token::{Grant, Tokens},
    *,
};
use crate::{
    index::World,
    metrics::Metrics,
    store::{Batch, Memory},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::pem::PemObject;
use tonic::metadata::MetadataMap;
use weir_config::{resources::parse, xds::istio_ca::IstioCertificateRequest};
use x509_parser::extensions::GeneralName;

const HOUR: Duration = Duration::from_secs(3600);

fn ca(store: &Memory) -> Arc<Ca> {
    Ca::open(Source::Own, store, SystemTime::now()).unwrap()
}

fn csr(key: &KeyPair, params: CertificateParams) -> String {
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// A request that asks for everything that it must not get.
fn greedy_csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(vec!["billing.demo".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://weir.local/ns/demo/sa/billing".try_into().unwrap()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    csr(key, params)
}

fn web() -> SpiffeId {
    "spiffe://weir.local/ns/demo/sa/web".parse().unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[test]
fn a_request_for_foreign_names_gets_only_the_proven_identity() {
    let ca = ca(&Memory::default());
    let now = SystemTime::now();
    let key = KeyPair::generate().unwrap();
    let issued = ca.sign(&greedy_csr(&key), &web(), HOUR, now).unwrap();
    assert_eq!(issued.chain.len(), 1);
    let der = der(&issued.chain[0]);
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::URI("spiffe://weir.local/ns/demo/sa/web")]);
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject().iter().count(), 0, "the wished subject is not taken");
    assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert_eq!(leaf.public_key().subject_public_key.data, key.public_key_raw());
    let seconds = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    assert!(leaf.validity().not_before.timestamp() < seconds, "a little backdated");
    assert!((leaf.validity().not_after.timestamp() - seconds - 3600).abs() <= 1);
    let root = ca.roots().borrow()[0].clone();
    let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
}

#[test]
fn a_request_that_its_key_did_not_sign_is_refused() {
    let ca = ca(&Memory::default());
    let (mine, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let text = csr(&mine, CertificateParams::default());
    let raw = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).unwrap().to_vec();
    let (from, to) = (mine.public_key_raw(), other.public_key_raw());
    let at = raw.windows(from.len()).position(|w| w == from).unwrap();
    let mut forged = raw.clone();
    forged[at..at + to.len()].copy_from_slice(to);
    let refused = |csr: &str| ca.sign(csr, &web(), HOUR, SystemTime::now()).unwrap_err().kind();
    assert_eq!(refused(&root::pem("CERTIFICATE REQUEST", &forged)), ErrorKind::CsrSignature);
    assert_eq!(refused("no request"), ErrorKind::CsrMalformed);
    assert_eq!(refused(&root::pem("CERTIFICATE REQUEST", &raw[..raw.len() - 4])), ErrorKind::CsrMalformed);
    assert_eq!(refused(&"x".repeat(20_000)), ErrorKind::CsrMalformed);
}

#[test]
fn the_root_and_the_token_key_outlive_a_restart_and_differ_between_meshes() {
    let store = Memory::default();
    let (first, again) = (ca(&store), ca(&store));
    assert_eq!(first.roots_pem(), again.roots_pem());
    assert_ne!(first.roots_pem(), ca(&Memory::default()).roots_pem());
    let years = first.expires().duration_since(SystemTime::now()).unwrap().as_secs() / (365 * 24 * 3600);
    assert!((9..=10).contains(&years));
    let grant = Grant { namespace: "demo".into(), service_account: "web".into(), workload: None };
    let (token, _) = Tokens::open(&store).unwrap().create(&grant, HOUR, SystemTime::now()).unwrap();
    assert_eq!(Tokens::open(&store).unwrap().verify(&token).unwrap(), grant);
}

#[test]
fn given_files_are_used_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
    let write = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let pair = KeyPair::generate().unwrap();
        std::fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
    };
    write("one");
    let source = Source::Files { certificate: certificate.clone(), key: key.clone(), roots: None };
    let ca = Ca::open(source.clone(), &Memory::default(), SystemTime::now()).unwrap();
    let before = ca.roots_pem();
    assert!(!ca.reload(SystemTime::now()).unwrap());
    write("two");
    assert!(ca.reload(SystemTime::now()).unwrap());
    assert_ne!(ca.roots_pem(), before);
    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = ca.reload(SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("not that of its first certificate"), "{error}");
    let leaf = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    std::fs::write(&certificate, leaf).unwrap();
    let error = Ca::open(source, &Memory::default(), SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("not allowed to sign"), "{error}");
}

#[test]
fn tokens_that_are_expired_forged_or_foreign_are_refused() {
    let tokens = Tokens::open(&Memory::default()).unwrap();
    let grant = Grant { namespace: "demo".into(), service_account: "web".into(), workload: Some("web-1".into()) };
    let now = SystemTime::now();
    let (token, expires) = tokens.create(&grant, HOUR, now).unwrap();
    assert_eq!(tokens.verify(&token).unwrap(), grant);
    assert_eq!(expires, now + HOUR);
    let refused = |token: &str| tokens.verify(token).unwrap_err().kind();
    let (expired, _) = tokens.create(&grant, HOUR, now - 2 * HOUR).unwrap();
    assert_eq!(refused(&expired), ErrorKind::TokenExpired);
    let (foreign, _) = Tokens::open(&Memory::default()).unwrap().create(&grant, HOUR, now).unwrap();
    assert_eq!(refused(&foreign), ErrorKind::TokenInvalid);
    let mut parts: Vec<&str> = token.split('.').collect();
    // {"alg":"none"}
    parts[0] = "eyJhbGciOiJub25lIn0";
    assert_eq!(refused(&parts.join(".")), ErrorKind::TokenInvalid);
    let other = Grant { service_account: "billing".into(), ..grant };
    let (other, _) = tokens.create(&other, HOUR, now).unwrap();
    let (mine, theirs): (Vec<_>, Vec<_>) = (token.split('.').collect(), other.split('.').collect());
    assert_eq!(refused(&[mine[0], theirs[1], mine[2]].join(".")), ErrorKind::TokenInvalid);
    assert_eq!(refused(""), ErrorKind::TokenInvalid);
    assert_eq!(refused(&"x".repeat(10_000)), ErrorKind::TokenInvalid);
    let (_, longest) = tokens.create(&other_grant(), 100 * token::MAX_LIFETIME, now).unwrap();
    assert_eq!(longest, now + token::MAX_LIFETIME);
}

fn other_grant() -> Grant {
    Grant { namespace: "demo".into(), service_account: "web".into(), workload: None }
}

/// A mesh with `demo/web-1` and `demo/billing-1`, whose service accounts are `web` and `billing`.
fn service() -> (Certificates, watch::Sender<Arc<World>>) {
    let store = Memory::default();
    let workload = |name: &str, account: &str, address: &str| {
        format!(
            "{{apiVersion: weir.dev/v1alpha1, kind: Workload, metadata: {{name: {name}, namespace: demo}}, \
             spec: {{address: {address}, serviceAccount: {account}}}}}\n---\n"
        )
    };
    let text = workload("web-1", "web", "127.0.0.1") + &workload("billing-1", "billing", "127.0.0.2");
    store.apply(&Batch::put_all(parse("test.yaml", &text).unwrap())).unwrap();
    let (sender, worlds) = watch::channel(Arc::new(World::build(store.snapshot(), &World::default())));
    let certificates = Certificates {
        reviews: None,
        ca: ca(&store),
        tokens: Arc::new(Tokens::open(&store).unwrap()),
        worlds,
        lifetime: None,
        metrics: Metrics::default(),
    };
    (certificates, sender)
}

fn ask(service: &Certificates, token: Option<&Grant>, peer: Option<&str>, wish: i64) -> Result<SpiffeId, ErrorKind> {
    let key = KeyPair::generate().unwrap();
    let request = IstioCertificateRequest { csr: greedy_csr(&key), validity_duration: wish, metadata: None };
    let mut headers = MetadataMap::new();
    if let Some(grant) = token {
        let (token, _) = service.tokens.create(grant, HOUR, SystemTime::now()).unwrap();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let peer = peer.map(|p| p.parse().unwrap());
    let (_, chain) = service.issue(&headers, (peer, None), &request, SystemTime::now()).map_err(|e| e.kind())?;
    assert_eq!(chain.last(), Some(&service.ca.roots_pem()));
    Ok(crate::ca::spiffe_id(&der(&chain[0])).unwrap())
}

#[test]
fn a_token_or_a_certificate_gives_its_own_identity_and_no_other() {
    let (service, _world) = service();
    let grant = |account: &str, workload: Option<&str>| Grant {
        namespace: "demo".into(),
        service_account: account.into(),
        workload: workload.map(Into::into),
    };
    assert_eq!(ask(&service, Some(&grant("web", None)), None, 0), Ok(web()));
    assert_eq!(ask(&service, Some(&grant("web", Some("web-1"))), None, 0), Ok(web()));
    assert_eq!(ask(&service, None, Some(web().as_str()), 0), Ok(web()), "renewal by the present certificate");
    let refused = [
        (None, None, ErrorKind::NoProof),
        (Some(grant("web", Some("billing-1"))), None, ErrorKind::UnknownWorkload),
        (Some(grant("web", Some("ghost"))), None, ErrorKind::UnknownWorkload),
        (Some(grant("ghost", None)), None, ErrorKind::UnknownWorkload),
        (None, Some("spiffe://other.mesh/ns/demo/sa/web"), ErrorKind::PeerIdentity),
        (None, Some("spiffe://weir.local/ns/demo/sa/gone"), ErrorKind::UnknownWorkload),
        (None, Some("spiffe://weir.local/some/thing"), ErrorKind::PeerIdentity),
    ];
    for (token, peer, kind) in refused {
        assert_eq!(ask(&service, token.as_ref(), peer, 0), Err(kind), "{token:?} {peer:?}");
    }
    let mut basic = MetadataMap::new();
    basic.insert("authorization", "Basic abc".parse().unwrap());
    let error = service.issue(&basic, (Some(web()), None), &IstioCertificateRequest::default(), SystemTime::now());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TokenInvalid, "a bad token is not overlooked for a certificate");
}

#[test]
fn a_life_may_be_shortened_by_who_asks_and_not_lengthened() {
    let (mut service, _world) = service();
    service.lifetime = Some(Duration::from_secs(10));
    let life = |wish| {
        let request = IstioCertificateRequest {
            csr: csr(&KeyPair::generate().unwrap(), CertificateParams::default()),
            validity_duration: wish,
            metadata: None,
        };
        let now = SystemTime::now();
        let (_, chain) = service.issue(&MetadataMap::new(), (Some(web()), None), &request, now).unwrap();
        let der = der(&chain[0]);
        let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
        let now = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        leaf.validity().not_after.timestamp() - now
    };
    assert!((9..=10).contains(&life(0)));
    assert!((9..=10).contains(&life(100_000)));
    assert!((5..=6).contains(&life(6)));
    assert!((9..=10).contains(&life(-5)));
}
