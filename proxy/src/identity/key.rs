//! The private key: made here, for one certificate, and never sent anywhere.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SignatureAlgorithm, SigningKey};
use std::fmt;
use zeroize::Zeroizing;

/// An ECDSA key on P-256. Its bytes are wiped from memory when it is dropped.
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
}

impl PrivateKey {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Generate)?;
        Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// One that was kept.
    ///
    /// # Errors
    /// If it is no P-256 key in PKCS #8 DER.
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).map_err(|_| KeyError::Unreadable)?;
        Ok(Self { pkcs8, pair })
    }

    /// Its bytes, PKCS #8 DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A certificate request in PEM. It names nobody: who we are is for the certificate authority to say, from what we
    /// prove.
    ///
    /// # Errors
    /// If signing fails.
    pub fn request(&self) -> Result<String, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(self).and_then(|request| request.pem()).map_err(KeyError::Request)
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(P-256)")
    }
}

/// What can go wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No randomness.
    #[error("a key could not be made")]
    Generate,
    /// Not a key of ours.
    #[error("what was kept is no P-256 key")]
    Unreadable,
    /// No request.
    #[error("the certificate request could not be made: {0}")]
    Request(rcgen::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_by_its_key_and_names_nobody() {
        let key = PrivateKey::generate().unwrap();
        let pem = key.request().unwrap();
        let request = rcgen::CertificateSigningRequestParams::from_pem(&pem).unwrap();
        assert_eq!(request.public_key.der_bytes(), key.der_bytes());
        assert!(request.params.subject_alt_names.is_empty());
        let again = PrivateKey::from_pkcs8(Zeroizing::new(key.pkcs8().to_vec())).unwrap();
        assert_eq!(again.der_bytes(), key.der_bytes());
        assert!(PrivateKey::from_pkcs8(Zeroizing::new(b"no key".to_vec())).is_err());
    }
}
