//! Signing: a leaf says who was proven, and nothing that the request asked for beyond its key.

use super::{
    Error, ErrorKind, MAX_LIFETIME, MIN_LIFETIME,
    root::{BACKDATED, Root, pem},
};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject};
use std::time::{Duration, SystemTime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use weir_config::model::SpiffeId;
use x509_parser::{
    certification_request::X509CertificationRequest, prelude::FromDer as _, public_key::PublicKey,
    x509::SubjectPublicKeyInfo as Spki,
};

/// A signing request of more than this is none.
const MAX_CSR: usize = 16 * 1024;

/// A certificate that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM certificates: the leaf, and what leads to the root, without it.
    pub chain: Vec<String>,
    /// When the leaf ends.
    pub not_after: SystemTime,
}

/// A certificate for our own port.
#[derive(Debug)]
pub struct Serving {
    /// The leaf, and what leads to the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it ends.
    pub not_after: SystemTime,
}

/// Signs for a workload.
pub(super) fn workload(
    root: &Root,
    csr: &str,
    who: &SpiffeId,
    lifetime: Duration,
    now: SystemTime,
) -> Result<Issued, Error> {
    let key = proven_key(csr)?;
    let uri = who.as_str().try_into().map_err(|e: rcgen::Error| Error::new(ErrorKind::Name, e.to_string()))?;
    // A leaf that outlives its issuer would fail at the issuer's end without a sign of it.
    let not_after = (now + lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME)).min(root.not_after);
    if not_after <= now {
        let (ended, remedy) = (OffsetDateTime::from(root.not_after), &root.remedy);
        let ended = ended.format(&Rfc3339).unwrap_or_default();
        return Err(Error::new(ErrorKind::Expired, format!("the issuing certificate has expired ({ended}); {remedy}")));
    }
    let leaf = leaf(root, &key, vec![SanType::URI(uri)], not_after, now)?;
    let chain = std::iter::once(&leaf).chain(&root.chain).map(|der| pem("CERTIFICATE", der)).collect();
    Ok(Issued { chain, not_after })
}

/// Makes a key and signs for our own port.
pub(super) fn serving(root: &Root, names: &[String], lifetime: Duration, now: SystemTime) -> Result<Serving, Error> {
    let failed = |e: rcgen::Error| Error::new(ErrorKind::Root, format!("a key cannot be made: {e}"));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let names = CertificateParams::new(names).map_err(|e| {
        Error::new(ErrorKind::Name, format!("one of {names:?} is neither a DNS name nor an address: {e}"))
    })?;
    // Sidecars take it from a root that has expired too, and so can be told what is to be done about it.
    let end = if root.not_after <= now { now + lifetime } else { (now + lifetime).min(root.not_after) };
    let leaf = leaf(root, &key, names.subject_alt_names, end, now)?;
    let chain = std::iter::once(leaf).chain(root.chain.iter().cloned()).collect();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(Serving { chain, key, not_after: end })
}

fn leaf(
    root: &Root,
    key: &impl PublicKeyData,
    names: Vec<SanType>,
    not_after: SystemTime,
    now: SystemTime,
) -> Result<CertificateDer<'static>, Error> {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(not_after);
    params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
    // A SPIFFE leaf has an empty subject, so its SAN extension is the only thing that names it.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(key, &root.issuer)
        .map_err(|e| Error::new(ErrorKind::Root, format!("the certificate cannot be signed: {e}")))?;
    Ok(certificate.der().clone())
}

/// The public key of a request, after its owner has proven to hold the private one (RFC 2986 §4.2). Names, usages and
/// all other extensions of the request are not looked at.
fn proven_key(csr: &str) -> Result<SubjectPublicKeyInfo, Error> {
    let malformed = |why: String| Error::new(ErrorKind::CsrMalformed, format!("the signing request: {why}"));
    if csr.len() > MAX_CSR {
        return Err(malformed(format!("it has {} bytes, more than {MAX_CSR}", csr.len())));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes())
        .map_err(|_| malformed("it is not PEM `CERTIFICATE REQUEST`".into()))?;
    let (rest, request) = X509CertificationRequest::from_der(&der)
        .map_err(|_| malformed("it is not a PKCS#10 certification request".into()))?;
    if !rest.is_empty() {
        return Err(malformed("bytes follow it".into()));
    }
    let spki = &request.certification_request_info.subject_pki;
    acceptable(spki)?;
    request.verify_signature().map_err(|_| {
        Error::new(ErrorKind::CsrSignature, "the signing request is not signed by the key that it is for")
    })?;
    SubjectPublicKeyInfo::from_der(spki.raw)
        .map_err(|e| Error::new(ErrorKind::CsrKey, format!("the signing request's key cannot be used: {e}")))
}

/// P-256, P-384, Ed25519, or RSA of 2,048 to 4,096 bits (istio-agent's default).
fn acceptable(spki: &Spki<'_>) -> Result<(), Error> {
    const ED25519: &str = "1.3.101.112";
    let fits = match spki.parsed() {
        Ok(PublicKey::EC(point)) => [256, 384].contains(&point.key_size()),
        Ok(PublicKey::RSA(key)) => (2048..=4096).contains(&key.key_size()),
        _ => spki.algorithm.algorithm.to_id_string() == ED25519,
    };
    let message = "the signing request's key must be P-256, P-384, Ed25519 or RSA of 2,048 to 4,096 bits";
    if fits { Ok(()) } else { Err(Error::new(ErrorKind::CsrKey, message)) }
}
