//! The certificates of the peers: a root that signs what a mesh's own authority would.

use crate::contestant::Failure;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::path::{Path, PathBuf};

/// Where one side's certificate, key and root are.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The certificate, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The root that vouches for both sides, PEM.
    pub root: PathBuf,
    /// Certificate and key in one file, as HAProxy wants them.
    pub bundle: PathBuf,
}

/// The SPIFFE name of a service account.
pub fn identity(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}

/// The name that peers check who know DNS names only.
pub fn dns_name(account: &str) -> String {
    format!("{account}.default.svc.cluster.local")
}

/// A root with its key.
pub struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    /// A new one.
    pub fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::new(Vec::new())?;
        // Another name than the certificates have, or OpenSSL takes those for roots.
        params.distinguished_name.push(DnType::CommonName, "the bench's root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Certificate (P-256, as Weir's are), key and root as files.
    pub fn issue(&self, folder: &Path, account: &str) -> Result<Certificates, Failure> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, account);
        params.subject_alt_names = vec![
            SanType::URI(identity(account).as_str().try_into()?),
            SanType::DnsName(dns_name(account).as_str().try_into()?),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0)?;
        let write = |name: &str, text: String| -> Result<PathBuf, Failure> {
            let path = folder.join(format!("{account}-{name}.pem"));
            std::fs::write(&path, text)?;
            Ok(path)
        };
        Ok(Certificates {
            bundle: write("bundle", certificate.pem() + &key.serialize_pem())?,
            chain: write("chain", certificate.pem())?,
            key: write("key", key.serialize_pem())?,
            root: write("root", self.0.pem())?,
        })
    }
}
