//! Tokens that somebody else has made, and vouches for: in Kubernetes, those of service accounts.

use super::{Error, token::Grant};
use std::fmt;

/// Who can tell whose token it is that we have not made.
#[tonic::async_trait]
pub trait Reviews: Send + Sync + fmt::Debug {
    /// Whom a token speaks for: what the reviewer says of it, never what the token claims.
    ///
    /// # Errors
    /// It is of nobody, or not meant for us; or the reviewer does not answer ([`super::ErrorKind::Store`]).
    async fn review(&self, token: &str) -> Result<Grant, Error>;
}
