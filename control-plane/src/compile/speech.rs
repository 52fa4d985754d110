//! What is spoken to an instance: which protocol, and whether with mutual TLS.

use crate::index::{Item, World};
use weir_config::{
    model::Protocol,
    resources::{AppProtocol, MtlsMode, Workload},
};

/// What is spoken to the endpoints.
pub(super) fn protocol(app: AppProtocol) -> Protocol {
    match app {
        // An application said to speak HTTP may speak HTTP/2 too; what its client speaks is what it was written for.
        AppProtocol::Http => Protocol::UseDownstream,
        AppProtocol::H2c | AppProtocol::Grpc => Protocol::Http2,
        AppProtocol::Tcp => Protocol::Tcp,
    }
}

/// Whether a workload is called through its sidecar, with mutual TLS.
pub(super) fn in_mesh(world: &World, workload: &Item<Workload>) -> bool {
    world.mesh().mtls != MtlsMode::Disabled && workload.sidecar.is_some()
}
