//! Join tokens: what a workload outside Kubernetes proves its identity with, until it has a certificate.
//!
//! A JWT (RFC 7519) signed with HMAC-SHA-256 under a key that only the store knows: who makes tokens is who checks them.
//! Tokens are short-lived and cannot be revoked one by one.

use super::{Error, ErrorKind, Vault};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind as JwtError};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

const KEPT_AT: &str = "ca/token-key";
const ISSUER: &str = "weir";
const AUDIENCE: &str = "weir-ca";
const KEY_BYTES: usize = 32;
/// Longer tokens are not looked at.
const MAX_TOKEN: usize = 4 * 1024;
/// How long a token is good for unless told otherwise.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
/// The longest: a week, since a token cannot be taken back.
pub const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The namespace of the identity.
    pub namespace: String,
    /// The service account of the identity.
    pub service_account: String,
    /// Only for the workload of this name.
    pub workload: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
    #[serde(rename = "weir.dev/namespace")]
    namespace: String,
    #[serde(rename = "weir.dev/serviceAccount")]
    service_account: String,
    #[serde(rename = "weir.dev/workload", default, skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
}

/// Makes and checks join tokens.
pub struct Tokens {
    sign: EncodingKey,
    check: DecodingKey,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// With the key in the store, made at the first start.
    ///
    /// # Errors
    /// The store's.
    pub fn open(vault: &dyn Vault) -> Result<Self, Error> {
        let store = |e: String| Error::new(ErrorKind::Store, format!("the key of join tokens: {e}"));
        let key = match vault.read(KEPT_AT).map_err(store)? {
            Some(key) => key,
            None => vault.keep(KEPT_AT, &rand::random::<[u8; KEY_BYTES]>()).map_err(store)?,
        };
        let key = Zeroizing::new(key);
        if key.len() < KEY_BYTES {
            return Err(store("what is kept is too short".into()));
        }
        Ok(Self { sign: EncodingKey::from_secret(&key), check: DecodingKey::from_secret(&key) })
    }

    /// A new token, and when it ends. `lifetime` is cut to [`MAX_LIFETIME`].
    ///
    /// # Errors
    /// The claims cannot be written, which does not happen.
    pub fn create(&self, grant: &Grant, lifetime: Duration, now: SystemTime) -> Result<(String, SystemTime), Error> {
        let expires = now + lifetime.min(MAX_LIFETIME);
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            iat: seconds(now),
            exp: seconds(expires),
            namespace: grant.namespace.clone(),
            service_account: grant.service_account.clone(),
            workload: grant.workload.clone(),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign);
        let failed = |e| Error::new(ErrorKind::TokenInvalid, format!("a join token cannot be made: {e}"));
        Ok((token.map_err(failed)?, expires))
    }

    /// Whom a token speaks for.
    ///
    /// # Errors
    /// It is forged, of another issuer, for another audience, has run out, or lives longer than any that we make.
    pub fn verify(&self, token: &str) -> Result<Grant, Error> {
        if token.len() > MAX_TOKEN {
            return Err(Error::new(ErrorKind::TokenInvalid, "the join token is too long to be one"));
        }
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        rules.leeway = 0;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.check, &rules).map_err(|e| refused(&e))?.claims;
        if claims.exp.saturating_sub(claims.iat) > MAX_LIFETIME.as_secs() {
            return Err(Error::new(ErrorKind::TokenInvalid, "the join token lives longer than a week"));
        }
        Ok(Grant { namespace: claims.namespace, service_account: claims.service_account, workload: claims.workload })
    }
}

/// Whether a token is of the kind that is made here, whoever made it.
pub(super) fn is_ours(token: &str) -> bool {
    token.len() <= MAX_TOKEN && jsonwebtoken::decode_header(token).is_ok_and(|header| header.alg == Algorithm::HS256)
}

fn refused(error: &jsonwebtoken::errors::Error) -> Error {
    match error.kind() {
        JwtError::ExpiredSignature => {
            Error::new(ErrorKind::TokenExpired, "the join token has expired; make a new one with `weir token create`")
        }
        // No more than this is said to a stranger.
        _ => Error::new(
            ErrorKind::TokenInvalid,
            "the join token was not made by this control plane; make one with `weir token create`",
        ),
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
