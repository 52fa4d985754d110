//! What the REST API asks of rooms beside it, so that it can be tested without them.

use super::{
    problem::Result,
    types::{Change, Proxy, Rotation, RotationRequest, Token, TokenRequest},
};
use tokio::sync::watch;

/// Who knows what the sidecars hold.
pub trait Fleet: Send + Sync + 'static {
    /// All known proxies, by node.
    fn proxies(&self) -> Vec<Proxy>;

    /// The last changes, the newest first.
    fn changes(&self) -> Vec<Change>;

    /// One change; `None`: there was none of this version, or it was too long ago.
    fn change(&self, version: u64) -> Option<Change>;

    /// Wakes whenever what the others say may have changed.
    fn watch(&self) -> watch::Receiver<u64>;
}

/// Who vouches for identities. May wait for a disk.
pub trait Identity: Send + Sync + 'static {
    /// A new join token.
    ///
    /// # Errors
    /// The request makes no sense, or the store fails.
    fn token(&self, request: &TokenRequest) -> Result<Token>;

    /// The roots of the mesh, as PEM.
    fn roots(&self) -> String;

    /// How it stands with the roots.
    ///
    /// # Errors
    /// The store fails.
    fn rotation(&self) -> Result<Rotation>;

    /// Begins, holds, goes on with, or takes back an exchange of the roots.
    ///
    /// # Errors
    /// It makes no sense now, or the store fails.
    fn rotate(&self, request: &RotationRequest) -> Result<Rotation>;
}
