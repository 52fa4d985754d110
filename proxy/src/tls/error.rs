//! Why a handshake failed, in a closed list of words for logs and metric labels.

use rustls::{AlertDescription, CertificateError};
use std::{fmt, io};

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// This sidecar has no certificate, or no trust bundle, yet.
    NotReady,
    /// The peer showed no certificate.
    NoCertificate,
    /// The peer's certificate does not lead to a root of the bundle.
    UnknownRoot,
    /// The peer's certificate is past its end.
    Expired,
    /// The peer's certificate is before its begin: a clock is wrong.
    NotYetValid,
    /// A good certificate of somebody else: another trust domain, or none of the identities that may be called.
    WrongIdentity,
    /// The peer's certificate cannot be read, or carries no single SPIFFE identity.
    BadCertificate,
    /// The peer refuses our certificate.
    RefusedByPeer,
    /// The handshake was not over in time.
    HandshakeTimeout,
    /// The connection broke.
    Io,
    /// The peer does not keep to TLS 1.3, or shares no algorithm with us.
    Protocol,
}

impl Reason {
    /// All, for metric label sets that are made once.
    pub const ALL: [Self; 11] = [
        Self::NotReady,
        Self::NoCertificate,
        Self::UnknownRoot,
        Self::Expired,
        Self::NotYetValid,
        Self::WrongIdentity,
        Self::BadCertificate,
        Self::RefusedByPeer,
        Self::HandshakeTimeout,
        Self::Io,
        Self::Protocol,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::NoCertificate => "no_certificate",
            Self::UnknownRoot => "unknown_root",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIdentity => "wrong_identity",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByPeer => "refused_by_peer",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Io => "connection_broken",
            Self::Protocol => "protocol_error",
        }
    }

    /// Whether the peer's identity is what is wrong (`tls_peer_untrusted`), not the way to it.
    pub fn is_untrusted(self) -> bool {
        match self {
            Self::NoCertificate
            | Self::UnknownRoot
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongIdentity
            | Self::BadCertificate => true,
            Self::NotReady | Self::RefusedByPeer | Self::HandshakeTimeout | Self::Io | Self::Protocol => false,
        }
    }

    /// The reason inside an I/O error that a TLS stream gave. In TLS 1.3 a client learns only from its first read that
    /// its certificate was refused; `None`: not a TLS failure.
    pub fn of_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().map(Self::of_rustls)
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(e) => Self::of_certificate(e),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::Protocol,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownRoot,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongIdentity,
            _ => Self::BadCertificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Self::RefusedByPeer,
            _ => Self::Protocol,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A handshake that failed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Error {
    reason: Reason,
    detail: String,
    #[source]
    source: Option<io::Error>,
}

impl Error {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), source: None }
    }

    pub(super) fn of_io(source: io::Error) -> Self {
        let reason = Reason::of_io(&source).unwrap_or(Reason::Io);
        Self { reason, detail: source.to_string(), source: Some(source) }
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// For people: what was found and what was expected.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}
