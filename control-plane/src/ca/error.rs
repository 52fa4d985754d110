//! Why a certificate is not issued.

use std::fmt;

/// What went wrong; its word is the `reason` label of `weir_cp_certificates_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The signing request cannot be read.
    CsrMalformed,
    /// The signing request is not signed by the key that it is for.
    CsrSignature,
    /// The request's key is of a kind, or a size, that we do not sign.
    CsrKey,
    /// The caller has shown neither a token nor a certificate.
    NoProof,
    /// The token is forged, foreign or cannot be read.
    TokenInvalid,
    /// The token has run out.
    TokenExpired,
    /// The certificate shown says nothing that we accept.
    PeerIdentity,
    /// The workload does not exist, or has another service account.
    UnknownWorkload,
    /// The issuing key or certificate is not usable.
    Root,
    /// The issuing certificate has run out.
    Expired,
    /// The store failed.
    Store,
    /// A name for the serving certificate is neither a DNS name nor an address.
    Name,
}

impl ErrorKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CsrMalformed => "csr_malformed",
            Self::CsrSignature => "csr_signature",
            Self::CsrKey => "csr_key",
            Self::NoProof => "no_proof",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::PeerIdentity => "peer_identity",
            Self::UnknownWorkload => "unknown_workload",
            Self::Root => "root",
            Self::Expired => "issuer_expired",
            Self::Store => "store",
            Self::Name => "name",
        }
    }
}

/// An error of the certificate authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// As a gRPC status, told to the caller.
    pub fn status(&self) -> tonic::Status {
        let message = self.message.clone();
        match self.kind {
            ErrorKind::CsrMalformed | ErrorKind::CsrSignature | ErrorKind::CsrKey | ErrorKind::Name => {
                tonic::Status::invalid_argument(message)
            }
            ErrorKind::NoProof | ErrorKind::TokenInvalid | ErrorKind::TokenExpired => {
                tonic::Status::unauthenticated(message)
            }
            ErrorKind::PeerIdentity | ErrorKind::UnknownWorkload => tonic::Status::permission_denied(message),
            // Who reads it is the one who can put it right, or knows who can.
            ErrorKind::Expired => tonic::Status::failed_precondition(message),
            // What is wrong inside is for our log, not for who asks.
            ErrorKind::Root | ErrorKind::Store => tonic::Status::internal("the certificate authority cannot sign now"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
