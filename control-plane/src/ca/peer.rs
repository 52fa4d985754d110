//! Who has proved to be whom on a connection: what the authority trusts in place of a token.

use std::net::SocketAddr;
use weir_config::model::SpiffeId;

/// Who is at the other end of a connection; among a request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where from.
    pub address: Option<SocketAddr>,
    /// What its certificate proves; `None`: it showed none, or one that is no SPIFFE identity.
    pub identity: Option<SpiffeId>,
}
