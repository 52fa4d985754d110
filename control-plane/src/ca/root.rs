//! The issuing key and certificate: our own, kept in the store, or given as files.

use super::{
    Error, ErrorKind, Roots, Vault,
    kept::{KEPT_AT, Kept, Material},
};
use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;

/// The life of a root that we make, unless told otherwise: ten years.
pub const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks differ: certificates are valid from a little before they were made.
pub(super) const BACKDATED: Duration = Duration::from_secs(60);
pub(super) const MAX_ROOTS: usize = 16;
const MAX_FILE: u64 = 1 << 20;

/// Where the issuing key comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Our own, made at the first start and kept in the store.
    #[default]
    Own,
    /// PEM files, as cert-manager or an operator writes them.
    Files {
        /// The issuing certificate, followed by those between it and the root.
        certificate: PathBuf,
        /// Its private key (PKCS#8).
        key: PathBuf,
        /// All roots that vouch for identities; `None`: the last of `certificate`.
        roots: Option<PathBuf>,
    },
}

/// An issuing key and certificate.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// What a leaf's chain continues with: the issuing certificate, and those between it and the root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) not_after: SystemTime,
    /// The identifier of its key, in hexadecimal digits.
    pub(super) key_id: String,
    /// What to do when it has expired.
    pub(super) remedy: String,
}

/// What the store keeps of our own root, made if there is nothing.
pub(super) fn own(vault: &dyn Vault, life: Duration, now: SystemTime) -> Result<Vec<u8>, Error> {
    let store = |e: String| Error::new(ErrorKind::Store, format!("the issuing key cannot be read or kept: {e}"));
    match vault.read(KEPT_AT).map_err(store)? {
        Some(kept) => Ok(kept),
        None => vault.keep(KEPT_AT, &Kept::new(make(now, life)?).encode()).map_err(store),
    }
}

/// What signs and what is trusted, as it is kept.
pub(super) fn of_kept(kept: &Kept) -> Result<(Root, Roots), Error> {
    let remedy = "exchange it with `weir rotate-anchor`";
    let Material { certificate, key, crossed } = &kept.issuing;
    let (mut root, roots) = assemble(certificate, key, Some(&kept.roots.concat()), "the store", remedy)?;
    root.chain.extend(certificates(crossed, "the store")?);
    Ok((root, roots))
}

/// A new root, for which the present one vouches: who trusts the old one only trusts what the new one signs.
pub(super) fn successor(present: &Root, now: SystemTime, life: Duration) -> Result<Material, Error> {
    let mut next = make(now, life)?;
    next.crossed = pem("CERTIFICATE", &crossed(present, &next, now, life)?);
    Ok(next)
}

/// A certificate of the key of `next`, by `present`. That it has expired does not matter: a root's time is not looked at.
fn crossed(present: &Root, next: &Material, now: SystemTime, life: Duration) -> Result<CertificateDer<'static>, Error> {
    let failed = |e: rcgen::Error| Error::new(ErrorKind::Root, format!("the new root cannot be vouched for: {e}"));
    let root = certificates(&next.certificate, "the new root")?.remove(0);
    let mut params = params(&common_name(&root)?, now, life);
    params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
    params.use_authority_key_identifier_extension = true;
    let key = key_pair(&next.key, "the new root")?;
    Ok(params.signed_by(&key, &present.issuer).map_err(failed)?.der().clone())
}

/// A new key and self-signed certificate.
fn make(now: SystemTime, life: Duration) -> Result<Material, Error> {
    let failed = |e: rcgen::Error| Error::new(ErrorKind::Root, format!("an issuing certificate cannot be made: {e}"));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    // Roots of two meshes must not have one name, or chains would be looked for in the wrong place.
    let id: u64 = rand::random();
    let params = params(&format!("weir mesh root {id:016x}"), now, life);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Material {
        certificate: pem("CERTIFICATE", certificate.der()),
        key: pem("PRIVATE KEY", &key.serialize_der()),
        crossed: String::new(),
    })
}

/// What is in a root's certificate.
fn params(name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(now + life);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "weir");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn common_name(der: &CertificateDer<'_>) -> Result<String, Error> {
    let unnamed = || bad("the new root", "it has no name");
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| unnamed())?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.map(str::to_owned).ok_or_else(unnamed)
}

/// Opens the files of `source`.
pub(super) fn from_files(source: &Source) -> Result<(Root, Roots), Error> {
    let Source::Files { certificate, key, roots } = source else {
        return Err(bad("the source", "it is not a file"));
    };
    let chain = read(certificate)?;
    let key = read(key)?;
    let roots = roots.as_deref().map(read).transpose()?;
    let place = certificate.display().to_string();
    assemble(&chain, &key, roots.as_deref(), &place, &format!("put a valid one and its key into {place}"))
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |e: std::io::Error| Error::new(ErrorKind::Root, format!("cannot read `{}`: {e}", path.display()));
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(bad(&path.display().to_string(), "it is larger than 1 MiB"));
    }
    fs::read_to_string(path).map_err(failed)
}

fn assemble(chain: &str, key: &str, roots: Option<&str>, place: &str, remedy: &str) -> Result<(Root, Roots), Error> {
    let mut chain = certificates(chain, place)?;
    let issuing = chain.first().cloned().ok_or_else(|| bad(place, "there is no certificate in it"))?;
    let key = key_pair(key, place)?;
    let (not_after, key_id) = check(&issuing, &key, place)?;
    let roots = match roots {
        Some(roots) => certificates(roots, "the file of roots")?,
        None => chain.last().cloned().into_iter().collect(),
    };
    if roots.is_empty() || roots.len() > MAX_ROOTS {
        return Err(bad(place, "there must be 1 to 16 roots"));
    }
    let roots = first_the_issuer_s(roots, chain.last().unwrap_or(&issuing));
    // A root is known to the other side: it is not sent along.
    chain.retain(|c| !roots.contains(c));
    let issuer = Issuer::from_ca_cert_der(&issuing, key).map_err(|e| bad(place, &e.to_string()))?;
    Ok((Root { issuer, chain, not_after, key_id, remedy: remedy.to_owned() }, roots))
}

/// The root that the chain leads to comes first: by that sidecars see who signs now.
fn first_the_issuer_s(mut roots: Roots, last: &CertificateDer<'_>) -> Roots {
    let parse = x509_parser::parse_x509_certificate;
    let leads_to = |root: &CertificateDer<'_>| match (parse(root), parse(last)) {
        (Ok((_, root)), Ok((_, last))) => {
            root.subject().as_raw() == last.issuer().as_raw() && last.verify_signature(Some(root.public_key())).is_ok()
        }
        _ => false,
    };
    if let Some(at) = roots.iter().position(leads_to) {
        roots[..=at].rotate_right(1);
    }
    roots
}

fn certificates(text: &str, place: &str) -> Result<Roots, Error> {
    let all: Result<Roots, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    all.map_err(|e| bad(place, &format!("a certificate in it cannot be read: {e}")))
}

fn key_pair(text: &str, place: &str) -> Result<KeyPair, Error> {
    let der = rustls_pki_types::PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|e| bad(place, &format!("its private key cannot be read: {e}")))?;
    KeyPair::try_from(&der).map_err(|e| bad(place, &format!("its private key cannot be used: {e}")))
}

/// The certificate must be one that may sign, and of this key; gives its end, and the identifier of its key.
fn check(der: &CertificateDer<'_>, key: &KeyPair, place: &str) -> Result<(SystemTime, String), Error> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|e| bad(place, &format!("it cannot be read: {e}")))?;
    if !certificate.is_ca() {
        return Err(bad(place, "its first certificate is not allowed to sign others (no CA:TRUE)"));
    }
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(bad(place, "the private key is not that of its first certificate"));
    }
    let ends = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(ends);
    let key_id = certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.iter().map(|b| format!("{b:02x}")).collect()),
        _ => None,
    });
    Ok((ends, key_id.unwrap_or_default()))
}

fn bad(place: &str, why: &str) -> Error {
    Error::new(ErrorKind::Root, format!("the issuing certificate from {place} cannot be used: {why}"))
}

/// PEM (RFC 7468): lines of 64 characters.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = &*text;
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out + &format!("-----END {label}-----\n")
}
