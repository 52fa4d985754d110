//! Clusters: how a service's port is called, or the application beside a node's own sidecar.

use super::{
    Node, alias,
    endpoints::instance,
    external, inbound,
    name::{self, Target},
    passthrough, server_name,
    settings::{self, Effective},
    speech::{in_mesh, protocol},
};
use crate::index::{Item, World};
use std::{collections::BTreeSet, sync::Arc};
use weir_config::{
    model::{Cluster, Discovery, Protocol, SpiffeId, UpstreamTls},
    resources::Workload,
};

/// The cluster of a service's port (`<fqdn>:<port>`), of one instance behind it (`<workload>@<fqdn>:<port>`), of an
/// application port of the node itself (`inbound:<port>`), or of what is not of the mesh.
pub fn cluster(world: &World, node: &Node, resource: &str) -> Option<Cluster> {
    if let Some(port) = name::inbound_port(resource) {
        return inbound::cluster(world, node, port);
    }
    if let Some(cluster) = passthrough::cluster(resource) {
        return Some(cluster);
    }
    let (workload, service) = name::pinned(resource);
    let Some(target) = name::resource(world, service) else {
        return alias::cluster(world, resource).or_else(|| external::cluster(world, resource));
    };
    let policy = settings::effective(world, &[&target.service.key]);
    let (discovery, workloads, outlier) = match workload {
        None => (Discovery::Eds(resource.into()), &target.service.workloads[..], policy.outlier.clone()),
        Some(workload) => {
            let only = target.service.workloads.iter().find(|w| **w.name() == *workload)?;
            // The only endpoint there is: to take it out would help nobody.
            (Discovery::Static(instance(world, resource, only, &target)?), std::slice::from_ref(only), None)
        }
    };
    let tls = tls(world, &target, workloads);
    let policy = Effective { outlier, ..policy };
    Some(balanced(resource, discovery, protocol(target.port.protocol), tls, policy))
}

/// A cluster with everything that a policy says.
pub(super) fn balanced(
    resource: &str,
    discovery: Discovery,
    protocol: Protocol,
    tls: Option<UpstreamTls>,
    policy: Effective,
) -> Cluster {
    Cluster {
        name: resource.into(),
        discovery,
        connect_timeout: policy.connect_timeout,
        load_balancing: policy.load_balancing,
        protocol,
        tls,
        limits: policy.limits,
        outlier: policy.outlier,
        retry_budget: policy.retry_budget,
        panic_threshold_percent: policy.panic_threshold_percent,
        idle_timeout: policy.pool_idle_timeout,
        max_connection_age: policy.max_connection_age,
    }
}

/// Mutual TLS, if any of the workloads speaks it. The identities are those of all of them: a caller accepts
/// at an address who might be there, and no one else.
fn tls(world: &World, target: &Target<'_>, workloads: &[Arc<Item<Workload>>]) -> Option<UpstreamTls> {
    let mesh = world.mesh();
    let identities: BTreeSet<SpiffeId> = workloads
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
