//! Mutual TLS 1.3 between sidecars: who the other end is, proven by a SPIFFE certificate of the mesh.
//!
//! Both sides check the same things: the chain leads to a root of the bundle, the certificate is in its time, it
//! carries exactly one URI, which is a SPIFFE identity of the bundle's trust domain (X509-SVID §4 and §5). DNS names
//! play no part. The server name that a caller sends (SNI) says which port of which service it means. A chain that was found
//! to be good is known from then on, until the identity or the bundle changes.
//!
//! ```text
//! identity ──update──> Contexts ──load once per handshake──> Client::connect / Server::accept
//! ```

mod bundle;
mod client;
mod context;
mod credentials;
mod crowd;
mod error;
mod known;
mod leaf;
#[cfg(test)]
mod openssl_tests;
mod server;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

pub use bundle::{Bundle, BundleError};
pub use client::{Client, ClientStream};
pub use context::Contexts;
pub use credentials::{Credentials, CredentialsError};
pub(crate) use crowd::answered_again;
pub use error::{Error, Reason};
pub use leaf::Leaf;
pub use server::{Server, ServerStream};

use std::{sync::Arc, time::SystemTime};
use weir_config::model::SpiffeId;

/// What is spoken inside the connection (RFC 7301). Bytes have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2`
    H2,
    /// `http/1.1`
    Http1,
}

impl Alpn {
    /// The protocol's name on the wire.
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }

    /// `None` for any other protocol.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        [Self::H2, Self::Http1].into_iter().find(|p| p.as_bytes() == name)
    }
}

/// What the handshake says of the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who it is. `None` only on the server side, where a certificate was not required and none was shown.
    pub id: Option<SpiffeId>,
    /// The server name: the one sent (client side), the one received (server side).
    pub sni: Option<Arc<str>>,
    /// The protocol agreed on.
    pub alpn: Option<Alpn>,
    /// Until when the peer's certificate is good.
    pub not_after: Option<SystemTime>,
    /// Whether the handshake resumed an earlier session.
    pub resumed: bool,
}
