//! The two protocols' messages, in and out of the machine's words.

use super::machine::{Encoded, Names, Protocol, Push, Request};
use weir_config::xds::ads::{
    Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node, Resource, RpcStatus,
    type_url,
};

/// One of the two protocols.
pub(super) trait Wire: Send + 'static {
    /// What clients send.
    type In: Send + 'static;
    /// What we send.
    type Out: Send + 'static;
    /// For the machine.
    const PROTOCOL: Protocol;
    /// For metrics and status.
    const WORD: &'static str;

    /// A client's message taken apart: its node (in the first), the type URL, and the rest.
    fn request(message: Self::In) -> (Option<Node>, String, Request);
    /// A response.
    fn response(push: Push, world: u64) -> Self::Out;
}

/// Incremental.
pub(super) struct Delta;

impl Wire for Delta {
    type In = DeltaDiscoveryRequest;
    type Out = DeltaDiscoveryResponse;
    const PROTOCOL: Protocol = Protocol::Delta;
    const WORD: &'static str = "delta";

    fn request(message: DeltaDiscoveryRequest) -> (Option<Node>, String, Request) {
        let names = Names::Delta {
            subscribe: message.resource_names_subscribe,
            unsubscribe: message.resource_names_unsubscribe,
            initial: message.initial_resource_versions.into_iter().collect(),
        };
        let request = Request { nonce: message.response_nonce, error: message.error_detail.map(words), names };
        (message.node, message.type_url, request)
    }

    fn response(push: Push, world: u64) -> DeltaDiscoveryResponse {
        let resource = |r: &Encoded| Resource {
            name: r.name.to_string(),
            version: r.version.to_string(),
            resource: Some(any(r)),
            ..Resource::default()
        };
        DeltaDiscoveryResponse {
            // For people: which version of the documents this is from.
            system_version_info: world.to_string(),
            resources: push.resources.iter().map(|r| resource(r)).collect(),
            type_url: type_url(push.kind).to_owned(),
            removed_resources: push.removed.iter().map(ToString::to_string).collect(),
            nonce: push.nonce,
            ..DeltaDiscoveryResponse::default()
        }
    }
}

/// State of the world.
pub(super) struct Sotw;

impl Wire for Sotw {
    type In = DiscoveryRequest;
    type Out = DiscoveryResponse;
    const PROTOCOL: Protocol = Protocol::Sotw;
    const WORD: &'static str = "sotw";

    fn request(message: DiscoveryRequest) -> (Option<Node>, String, Request) {
        let names = Names::Sotw(message.resource_names);
        let request = Request { nonce: message.response_nonce, error: message.error_detail.map(words), names };
        (message.node, message.type_url, request)
    }

    fn response(push: Push, _: u64) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: push.version,
            resources: push.resources.iter().map(|r| any(r)).collect(),
            type_url: type_url(push.kind).to_owned(),
            nonce: push.nonce,
            ..DiscoveryResponse::default()
        }
    }
}

fn any(resource: &Encoded) -> Any {
    Any { type_url: resource.type_url.to_owned(), value: resource.bytes.to_vec() }
}

fn words(status: RpcStatus) -> String {
    if status.message.is_empty() { format!("refused with code {}", status.code) } else { status.message }
}
