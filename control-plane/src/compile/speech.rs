//! What is spoken to an instance: which protocol, and whether with mutual TLS.

use crate::index::{Item, World};
use weir_config::{
    model::Protocol,
    resources::{AppProtocol, MtlsMode, Workload},
};

/// What is spoken to the endpoints.
pub(super) fn protocol(app: AppProtocol) -> Protocol {
    match app {
        // An application said to speak HTTP speaks HTTP/1.1; few speak HTTP/2 without being told, and those say h2c or grpc.
        AppProtocol::Http => Protocol::Http1,
        AppProtocol::H2c | AppProtocol::Grpc => Protocol::Http2,
        AppProtocol::Tcp => Protocol::Tcp,
        // Who calls it without having been told what it speaks knows what it speaks.
        AppProtocol::Detect => Protocol::UseDownstream,
    }
}

/// Whether a workload is called through its sidecar, with mutual TLS.
pub(super) fn in_mesh(world: &World, workload: &Item<Workload>) -> bool {
    world.mesh().mtls != MtlsMode::Disabled && workload.sidecar.is_some()
}
