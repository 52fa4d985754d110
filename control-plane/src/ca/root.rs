//! The issuing key and certificate: our own, kept in the store, or given as files.

use super::{Error, ErrorKind, Roots, Vault};
use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;

/// Where the own key and certificate are kept, together, so that one can never be there without the other.
const KEPT_AT: &str = "ca/root";
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks differ: certificates are valid from a little before they were made.
pub(super) const BACKDATED: Duration = Duration::from_secs(60);
const MAX_ROOTS: usize = 16;
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
}

/// Opens what `source` says.
pub(super) fn open(source: &Source, vault: &dyn Vault, now: SystemTime) -> Result<(Root, Roots), Error> {
    match source {
        Source::Own => own(vault, now),
        Source::Files { .. } => from_files(source, now),
    }
}

fn own(vault: &dyn Vault, now: SystemTime) -> Result<(Root, Roots), Error> {
    let store = |e: String| Error::new(ErrorKind::Store, format!("the issuing key cannot be read or kept: {e}"));
    let kept = match vault.read(KEPT_AT).map_err(store)? {
        Some(kept) => kept,
        None => vault.keep(KEPT_AT, make(now)?.as_bytes()).map_err(store)?,
    };
    let pem = String::from_utf8(kept).map_err(|_| bad("the store", "what is kept as issuing key is not PEM"))?;
    assemble(&pem, &pem, None, "the store", now)
}

/// A new key and self-signed certificate, as PEM in one text.
fn make(now: SystemTime) -> Result<String, Error> {
    let failed = |e: rcgen::Error| Error::new(ErrorKind::Root, format!("an issuing certificate cannot be made: {e}"));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(now + LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "weir");
    // Roots of two meshes must not have one name, or chains would be looked for in the wrong place.
    let id: u64 = rand::random();
    params.distinguished_name.push(DnType::CommonName, format!("weir mesh root {id:016x}"));
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der())))
}

/// Opens the files of `source`.
pub(super) fn from_files(source: &Source, now: SystemTime) -> Result<(Root, Roots), Error> {
    let Source::Files { certificate, key, roots } = source else {
        return Err(bad("the source", "it is not a file"));
    };
    let chain = read(certificate)?;
    let key = read(key)?;
    let roots = roots.as_deref().map(read).transpose()?;
    assemble(&chain, &key, roots.as_deref(), &certificate.display().to_string(), now)
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |e: std::io::Error| Error::new(ErrorKind::Root, format!("cannot read `{}`: {e}", path.display()));
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(bad(&path.display().to_string(), "it is larger than 1 MiB"));
    }
    fs::read_to_string(path).map_err(failed)
}

fn assemble(chain: &str, key: &str, roots: Option<&str>, place: &str, now: SystemTime) -> Result<(Root, Roots), Error> {
    let mut chain = certificates(chain, place)?;
    let issuing = chain.first().cloned().ok_or_else(|| bad(place, "there is no certificate in it"))?;
    let key = key_pair(key, place)?;
    let not_after = check(&issuing, &key, place, now)?;
    let roots = match roots {
        Some(roots) => certificates(roots, "the file of roots")?,
        None => chain.last().cloned().into_iter().collect(),
    };
    if roots.is_empty() || roots.len() > MAX_ROOTS {
        return Err(bad(place, "there must be 1 to 16 roots"));
    }
    // A root is known to the other side: it is not sent along.
    chain.retain(|c| !roots.contains(c));
    let issuer = Issuer::from_ca_cert_der(&issuing, key).map_err(|e| bad(place, &e.to_string()))?;
    Ok((Root { issuer, chain, not_after }, roots))
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

/// The certificate must be one that may sign, of this key, and valid; gives its end.
fn check(der: &CertificateDer<'_>, key: &KeyPair, place: &str, now: SystemTime) -> Result<SystemTime, Error> {
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
    if ends <= now {
        return Err(bad(place, "its first certificate has expired; put a valid one in its place"));
    }
    Ok(ends)
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
