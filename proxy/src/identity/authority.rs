//! Whoever signs: Istio's `CreateCertificate` API, asked with a join token first and with the present certificate then.

use super::{ControlPlane, Identity};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};
use weir_config::xds::istio_ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use zeroize::Zeroizing;

/// A signature takes a moment; a control plane that hangs must not hold a renewal up.
const SIGN_TIMEOUT: Duration = Duration::from_secs(5);
/// Far above a token of any kind.
const MAX_TOKEN: u64 = 64 * 1024;
/// Certificates in an answer: leaf, intermediates, roots.
const MAX_CHAIN: usize = 32;

/// Signs certificate requests.
pub trait Authority: Send + Sync {
    /// Has a request (PEM) signed.
    fn sign(&self, request: String, life: Option<Duration>) -> impl Future<Output = Result<Signed, SignError>> + Send;
}

/// A signed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// End-entity certificate first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots that came with it.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Asking again may help.
    #[error("{0}")]
    Unavailable(String),
    /// What we show is not accepted. Asking again soon does not help, though somebody may put it right.
    #[error("refused: {0}")]
    Refused(String),
}

/// Where the join token is.
#[derive(Clone)]
pub enum Token {
    /// In this file; read again each time, since an orchestrator replaces it.
    File(PathBuf),
    /// Given at the start.
    Text(Zeroizing<String>),
}

impl Token {
    fn read(&self) -> Result<Zeroizing<String>, SignError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let failed = |e: String| SignError::Refused(format!("the join token in `{}`: {e}", path.display()));
        if std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len() > MAX_TOKEN {
            return Err(failed("larger than 64 KiB".into()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?);
        Ok(Zeroizing::new(text.trim().to_owned()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "Token(`{}`)", path.display()),
            Self::Text(_) => f.write_str("Token(…)"),
        }
    }
}

/// The control plane as certificate authority.
#[derive(Debug)]
pub struct Remote {
    /// Where it is.
    pub control_plane: ControlPlane,
    /// Whose certificate is shown at a renewal.
    pub identity: Arc<Identity>,
    /// What proves who we are the first time, or after our certificate has expired.
    pub token: Option<Token>,
}

impl Authority for Remote {
    async fn sign(&self, request: String, life: Option<Duration>) -> Result<Signed, SignError> {
        let valid = self.identity.current().is_some_and(|c| c.is_valid(std::time::SystemTime::now()));
        if valid {
            match self.ask(&request, life, None).await {
                // The roots may have been replaced under us: the token, where there is one, proves us anew.
                Err(SignError::Refused(why)) if self.token.is_some() => {
                    tracing::warn!(%why, "renewal with the present certificate was refused; the join token is tried");
                }
                outcome => return outcome,
            }
        }
        let Some(token) = &self.token else {
            return Err(SignError::Refused("there is neither a valid certificate nor a join token to show".into()));
        };
        self.ask(&request, life, Some(token.read()?)).await
    }
}

impl Remote {
    /// With a token, or else with the present certificate.
    async fn ask(
        &self,
        request: &str,
        life: Option<Duration>,
        token: Option<Zeroizing<String>>,
    ) -> Result<Signed, SignError> {
        let channel = self
            .control_plane
            .connect(&self.identity, token.is_none())
            .await
            .map_err(|e| SignError::Unavailable(e.to_string()))?;
        let call = create(channel, request, life, token);
        tokio::time::timeout(SIGN_TIMEOUT, call)
            .await
            .map_err(|_| SignError::Unavailable(format!("no answer within {SIGN_TIMEOUT:?}")))?
    }
}

async fn create(
    channel: Channel,
    request: &str,
    life: Option<Duration>,
    token: Option<Zeroizing<String>>,
) -> Result<Signed, SignError> {
    let seconds = life.map_or(0, |l| i64::try_from(l.as_secs()).unwrap_or(i64::MAX));
    let mut call =
        Request::new(IstioCertificateRequest { csr: request.to_owned(), validity_duration: seconds, metadata: None });
    if let Some(token) = token {
        let header = Zeroizing::new(format!("Bearer {}", token.as_str()));
        let mut value = MetadataValue::try_from(header.as_str())
            .map_err(|_| SignError::Refused("the join token has characters that no token has".into()))?;
        value.set_sensitive(true);
        call.metadata_mut().insert("authorization", value);
    }
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(call).await.map_err(sign_error)?;
    parse(&answer.into_inner().cert_chain)
}

fn sign_error(status: Status) -> SignError {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => {
            SignError::Refused(text)
        }
        _ => SignError::Unavailable(text),
    }
}

/// The leaf, what stands between, and the roots: self-signed certificates at the end. Entries may hold several
/// certificates each (istiod).
fn parse(entries: &[String]) -> Result<Signed, SignError> {
    let bad = |what: &str| SignError::Unavailable(format!("the certificate authority's answer: {what}"));
    let mut chain = Vec::new();
    for entry in entries {
        for certificate in CertificateDer::pem_slice_iter(entry.as_bytes()) {
            chain.push(certificate.map_err(|_| bad("a certificate in it cannot be read"))?);
        }
        if chain.len() > MAX_CHAIN {
            return Err(bad("too many certificates"));
        }
    }
    let first_root = chain.iter().skip(1).position(is_self_signed).map_or(chain.len(), |i| i + 1);
    let roots = chain.split_off(first_root);
    if chain.is_empty() { Err(bad("no certificate in it")) } else { Ok(Signed { chain, roots }) }
}

fn is_self_signed(certificate: &CertificateDer<'static>) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, c)| c.subject() == c.issuer())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority as Root, Wish, id};
    use base64::{Engine, prelude::BASE64_STANDARD};

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(der))
    }

    #[test]
    fn leaf_and_roots_are_told_apart() {
        let root = Root::new("root");
        let (chain, _) = root.issue(&Wish::of(&id("web")));
        let signed = parse(&[pem(&chain[0]), pem(&root.root)]).unwrap();
        assert_eq!((&signed.chain, signed.roots), (&chain, vec![root.root.clone()]));
        let in_one = parse(&[format!("{}{}", pem(&chain[0]), pem(&root.root))]).unwrap();
        assert_eq!(in_one.chain, chain);
        assert_eq!(parse(&[pem(&chain[0])]).unwrap().roots, vec![]);
        assert!(parse(&[]).is_err());
        assert!(parse(&["-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".into()]).is_err());
        assert!(parse(&vec![pem(&root.root); MAX_CHAIN + 1]).is_err());
    }

    #[test]
    fn a_token_is_read_anew_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::File(path.clone());
        assert!(matches!(token.read(), Err(SignError::Refused(_))));
        std::fs::write(&path, " secret-1\n").unwrap();
        assert_eq!(token.read().unwrap().as_str(), "secret-1");
        let text = Token::Text(Zeroizing::new("secret-2".into()));
        assert!(!format!("{text:?}{token:?}").contains("secret"));
    }
}
