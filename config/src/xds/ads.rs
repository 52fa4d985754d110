//! The discovery protocol itself: messages of xDS v3, client and server of `AggregatedDiscoveryService`, type URLs and
//! content-hash versions.

pub use envoy_types::pb::envoy::config::core::v3::{Locality as NodeLocality, Metadata, Node};
pub use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
pub use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind as ValueKind};
pub use envoy_types::pb::google::rpc::Status as RpcStatus;

use crate::model::Kind;
use bytes::Bytes;

/// The type URL of a kind of resource, as it stands in requests, responses and every `Any`.
pub fn type_url(kind: Kind) -> &'static str {
    match kind {
        Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
        Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    }
}

/// In `node.metadata`: the node goes down, and is to get no new requests (`"true"`). May be said again, in any request of
/// a stream, when it becomes true.
pub const LEAVING: &str = "weir.leaving";

/// In `node.metadata`: the identifier of the key that signed the node's certificate (RFC 5280 §4.2.1.1), in hexadecimal
/// digits. Said again when that is another one.
pub const ISSUER: &str = "weir.issuer";

/// The kind that a type URL names, if it is one of ours.
pub fn kind_of(type_url_text: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|k| type_url(*k) == type_url_text)
}

/// The version of a resource: a hash of its bytes, so that all replicas of a control plane give the same one and a
/// reconnecting client is sent only what changed.
pub fn version_of(body: &[u8]) -> String {
    let mut hex = blake3::hash(body).to_hex().to_string();
    hex.truncate(16);
    hex
}

/// An encoded resource as it travels.
pub fn any(kind: Kind, body: &Bytes) -> Any {
    Any { type_url: type_url(kind).to_owned(), value: body.to_vec() }
}

/// A gRPC `google.rpc.Status` for `error_detail`: code 3 (`INVALID_ARGUMENT`) and a message.
pub fn invalid_argument(message: impl Into<String>) -> RpcStatus {
    RpcStatus { code: 3, message: message.into(), details: vec![] }
}

/// A `Struct` of text values, for `node.metadata`.
pub fn text_struct<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Struct {
    let value = |v: V| Value { kind: Some(ValueKind::StringValue(v.into())) };
    Struct { fields: pairs.into_iter().map(|(k, v)| (k.into(), value(v))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls_name_their_kinds_and_no_other() {
        for kind in Kind::ALL {
            assert_eq!(kind_of(type_url(kind)), Some(kind));
        }
        assert_eq!(kind_of("type.googleapis.com/envoy.config.route.v3.VirtualHost"), None);
    }

    #[test]
    fn a_version_is_the_content() {
        assert_eq!(version_of(b"a"), version_of(b"a"));
        assert_ne!(version_of(b"a"), version_of(b"b"));
        assert_eq!(version_of(b"").len(), 16);
    }
}
