//! Who has proved to be whom on a connection: what the authority trusts in place of a token.

use std::net::SocketAddr;
use weir_config::model::SpiffeId;
use x509_parser::extensions::GeneralName;

/// Who is at the other end of a connection; among a request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where from.
    pub address: Option<SocketAddr>,
    /// What its certificate proves; `None`: it showed none, or one that is no SPIFFE identity.
    pub identity: Option<SpiffeId>,
}

/// The SPIFFE identity in a certificate (DER): its one URI (X.509-SVID §2: exactly one).
pub fn spiffe_id(leaf: &[u8]) -> Option<SpiffeId> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next()?;
    if uris.next().is_some() {
        return None;
    }
    uri.parse().ok()
}
