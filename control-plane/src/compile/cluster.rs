//! Clusters: how a service's port is called, or the application beside a node's own sidecar.

use super::{
    Node, inbound,
    name::{self, Target},
    server_name, settings,
    speech::{in_mesh, protocol},
};
use crate::index::World;
use std::collections::BTreeSet;
use weir_config::model::{Cluster, Discovery, SpiffeId, UpstreamTls};

/// The cluster of a service's port (`<fqdn>:<port>`), or of an application port of the node itself (`inbound:<port>`).
pub fn cluster(world: &World, node: &Node, resource: &str) -> Option<Cluster> {
    if let Some(port) = name::inbound_port(resource) {
        return inbound::cluster(world, node, port);
    }
    let target = name::resource(world, resource)?;
    let policy = settings::effective(world, &[&target.service.key]);
    Some(Cluster {
        name: resource.into(),
        discovery: Discovery::Eds(resource.into()),
        connect_timeout: policy.connect_timeout,
        load_balancing: policy.load_balancing,
        protocol: protocol(target.port.protocol),
        tls: tls(world, &target),
        limits: policy.limits,
        outlier: policy.outlier,
        retry_budget: policy.retry_budget,
        panic_threshold_percent: policy.panic_threshold_percent,
        idle_timeout: policy.pool_idle_timeout,
        max_connection_age: policy.max_connection_age,
    })
}

/// Mutual TLS, if any workload behind the service speaks it. The identities are those of all of them: a caller accepts
/// at an address who might be there, and no one else.
fn tls(world: &World, target: &Target<'_>) -> Option<UpstreamTls> {
    let mesh = world.mesh();
    let identities: BTreeSet<SpiffeId> = target
        .service
        .workloads
        .iter()
        .filter(|workload| in_mesh(world, workload))
        .filter_map(|w| SpiffeId::workload(&mesh.trust_domain, w.namespace(), &w.service_account).ok())
        .collect();
    let (service, port) = (target.service, target.port.port);
    (!identities.is_empty()).then(|| UpstreamTls {
        sni: server_name(world, service.namespace(), service.name(), port),
        identities: identities.into_iter().collect(),
    })
}
