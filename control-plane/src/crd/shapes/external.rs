//! `ExternalService`.

use crate::crd::texts::{ExternalHost, ExternalProtocol, Label, OutsideAddress, Port};
use schemars::JsonSchema;

/// A destination outside the mesh, by the names of its hosts.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.addresses) && self.addresses.size() > 0) || !self.hosts.exists(h, h.startsWith('*.')) || \
                 self.ports.all(p, p.protocol in ['HTTP', 'TLS', 'HTTPS'])",
        "message": "of all hosts below a domain, those of a TCP or HTTP2 port cannot be told apart: list the hosts, or write \
                    their `addresses`",
        "fieldPath": ".ports",
    },
]))]
pub(in crate::crd) struct ExternalServiceSpec {
    /// Full names such as `api.example.com`, or `*.example.com` for all below a domain.
    #[schemars(length(min = 1, max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    hosts: Vec<ExternalHost>,
    /// What is spoken there.
    #[schemars(length(min = 1, max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port"]))]
    ports: Vec<ExternalPort>,
    /// Where all of its hosts are; without, sidecars ask their machine's resolver.
    #[schemars(length(max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    addresses: Option<Vec<OutsideAddress>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct ExternalPort {
    /// The number, for callers and at the hosts.
    port: Port,
    /// What is spoken: HTTP and TLS (HTTPS) carry the name of the host, HTTP2 (GRPC) and TCP do not.
    protocol: ExternalProtocol,
    /// A name for people.
    name: Option<Label>,
}
