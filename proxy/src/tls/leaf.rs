//! What an end-entity certificate says: who, and from when to when.

use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weir_config::model::SpiffeId;
use x509_parser::{
    extensions::ParsedExtension,
    prelude::{FromDer, GeneralName, X509Certificate},
};

/// The identity and the life of an X509-SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The one URI among its subject alternative names.
    pub id: SpiffeId,
    /// Not good before.
    pub not_before: SystemTime,
    /// Not good after.
    pub not_after: SystemTime,
    /// The serial number in hexadecimal digits.
    pub serial: String,
    /// The identifier of the key that signed it (RFC 5280 §4.2.1.1), in hexadecimal digits; empty: it does not say.
    pub issuer: String,
}

impl Leaf {
    /// Reads a certificate. Says nothing of whether it can be trusted.
    ///
    /// # Errors
    /// `BadEncoding` if it is no certificate, `NotValidForName` if it does not carry exactly one URI that is a SPIFFE
    /// identity (X509-SVID §2).
    pub fn parse(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (_, x509) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let names = x509
            .subject_alternative_name()
            .map_err(|_| CertificateError::BadEncoding)?
            .ok_or(CertificateError::ApplicationVerificationFailure)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(CertificateError::ApplicationVerificationFailure);
        };
        let id = uri.parse().map_err(|_| CertificateError::ApplicationVerificationFailure)?;
        Ok(Self {
            id,
            not_before: time(x509.validity().not_before.timestamp()),
            not_after: time(x509.validity().not_after.timestamp()),
            serial: hexadecimal(x509.raw_serial()),
            issuer: authority(&x509),
        })
    }
}

/// From when to when a certificate is good, if it is one.
pub(super) fn life(certificate: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (_, x509) = X509Certificate::from_der(certificate).ok()?;
    Some((time(x509.validity().not_before.timestamp()), time(x509.validity().not_after.timestamp())))
}

/// The identifier of the key that signed a certificate; empty: it does not say.
pub(super) fn issuer_of(certificate: &[u8]) -> String {
    X509Certificate::from_der(certificate).map_or_else(|_| String::new(), |(_, x509)| authority(&x509))
}

/// The identifier of a certificate's own key (RFC 5280 §4.2.1.2); empty: it does not say.
pub(super) fn key_of(certificate: &[u8]) -> String {
    let Ok((_, x509)) = X509Certificate::from_der(certificate) else { return String::new() };
    let found = x509.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(hexadecimal(id.0)),
        _ => None,
    });
    found.unwrap_or_default()
}

fn authority(x509: &X509Certificate<'_>) -> String {
    let found = x509.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| hexadecimal(id.0)),
        _ => None,
    });
    found.unwrap_or_default()
}

/// Two digits a byte.
fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|b| [b >> 4, b & 15]);
    digits.map(|d| char::from_digit(d.into(), 16).unwrap_or_default()).collect()
}

/// Seconds since the epoch as a time; what lies before it is the epoch, which is long past either way.
fn time(seconds: i64) -> SystemTime {
    u64::try_from(seconds).ok().and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s))).unwrap_or(UNIX_EPOCH)
}
