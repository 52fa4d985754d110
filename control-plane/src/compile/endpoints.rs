//! Endpoints: where the instances behind a service's port are.

use super::{Node, answer, name, speech::in_mesh};
use crate::index::{Caller, Item, World};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};
use weir_config::{
    model::{Endpoint, Endpoints, Health, Locality, NAME},
    resources::{TargetPort, Workload},
};

/// The instances of a service's port (`<fqdn>:<port>`), or the addresses that a name means (`dns/<name>`); the list may be
/// empty.
pub fn endpoints(world: &World, node: &Node, resource: &str) -> Option<Endpoints> {
    if resource.starts_with(NAME) {
        return answer::answer(world, node, resource);
    }
    let target = name::resource(world, resource)?;
    let near = target.service.near.as_deref();
    let caller = caller(world, node);
    let caller = near.map(|near| near.matters(caller)).unwrap_or_default();
    let mut addresses = BTreeSet::new();
    let mut localities: BTreeMap<(u32, &str, &str), Vec<Endpoint>> = BTreeMap::new();
    for workload in &target.service.workloads {
        let Some(endpoint) = endpoint(world, workload, &target.port.target) else { continue };
        // Two documents for one address are one instance; the first by name is taken.
        if addresses.insert(endpoint.address) {
            let distance = near.map_or(0, |near| near.distance(target.service.name(), caller, workload));
            localities.entry((distance, &workload.region, &workload.zone)).or_default().push(endpoint);
        }
    }
    // Priorities have no gap.
    let distances: BTreeSet<u32> = localities.keys().map(|(distance, ..)| *distance).collect();
    let priority = |distance: u32| distances.range(..distance).count() as u32;
    let total: u64 = localities.values().flatten().map(|e| u64::from(e.weight)).sum();
    let localities = localities.into_iter().map(|((distance, region, zone), endpoints)| Locality {
        region: region.to_owned(),
        zone: zone.to_owned(),
        priority: priority(distance),
        weight: share(endpoints.iter().map(|e| u64::from(e.weight)).sum(), total),
        endpoints,
    });
    Some(Endpoints { name: resource.into(), localities: localities.collect() })
}

/// What callers of a service's port need to have in common to be told the same; `None`: nothing.
pub(super) fn place(world: &World, node: &Node, resource: &str) -> Option<Arc<str>> {
    let near = name::resource(world, resource)?.service.near.as_deref()?;
    let Caller { zone, node } = near.matters(caller(world, node));
    (!zone.is_empty() || !node.is_empty()).then(|| format!("{zone}/{node}").into())
}

/// Where a node is.
fn caller<'a>(world: &'a World, node: &Node) -> Caller<'a> {
    let workload = world.workload(&node.namespace, &node.workload);
    workload.map(|w| Caller { zone: &w.zone, node: &w.node }).unwrap_or_default()
}

/// One instance alone. Its health is no matter: who calls an instance means that one.
pub(super) fn instance(
    world: &World,
    name: &str,
    workload: &Item<Workload>,
    target: &name::Target<'_>,
) -> Option<Endpoints> {
    let endpoint = Endpoint { health: Health::Healthy, ..endpoint(world, workload, &target.port.target)? };
    let locality = Locality {
        region: workload.region.clone(),
        zone: workload.zone.clone(),
        priority: 0,
        weight: 1,
        endpoints: vec![endpoint],
    };
    Some(Endpoints { name: name.into(), localities: vec![locality] })
}

/// The same, with those marked as draining that leave: callers choose others. Where there is no other, they are the best
/// that there is.
pub fn without(mut endpoints: Endpoints, leaving: &BTreeSet<Arc<str>>) -> Endpoints {
    let leaves = |e: &Endpoint| e.mesh && e.health == Health::Healthy && leaving.contains(&*e.workload);
    let all = || endpoints.localities.iter().flat_map(|l| &l.endpoints);
    let other = all().any(|e| e.health == Health::Healthy && !leaves(e));
    if other && all().any(leaves) {
        let all = endpoints.localities.iter_mut().flat_map(|l| &mut l.endpoints);
        all.filter(|e| leaves(e)).for_each(|e| e.health = Health::Draining);
    }
    endpoints
}

/// One instance; `None`: the workload has no port of that name.
fn endpoint(world: &World, workload: &Item<Workload>, target: &TargetPort) -> Option<Endpoint> {
    let app_port = workload.target(target)?;
    let sidecar = workload.sidecar.filter(|_| in_mesh(world, workload));
    Some(Endpoint {
        address: SocketAddr::new(workload.address, sidecar.map_or(app_port, |s| s.inbound_port)),
        weight: workload.weight.max(1),
        health: workload.health,
        workload: format!("{}/{}", workload.namespace(), workload.name()).into(),
        mesh: sidecar.is_some(),
    })
}

/// A locality's weight: that of its instances together, so that each instance gets its share wherever it is. Scaled down
/// where the sum of all would not fit, as xDS asks.
fn share(weight: u64, total: u64) -> u32 {
    // Half of the range, so that rounding small ones up to 1 cannot pass the limit.
    let limit = u64::from(u32::MAX / 2);
    let scaled =
        if total <= limit { weight } else { (u128::from(weight) * u128::from(limit) / u128::from(total)) as u64 };
    u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(workloads: &[(&str, Health, bool)]) -> Endpoints {
        let endpoint = |(n, (workload, health, mesh)): (usize, &(&str, Health, bool))| Endpoint {
            address: SocketAddr::from(([10, 0, 0, 1], n as u16 + 1)),
            weight: 1,
            health: *health,
            workload: (*workload).into(),
            mesh: *mesh,
        };
        let endpoints = workloads.iter().enumerate().map(endpoint).collect();
        let locality = Locality { region: String::new(), zone: String::new(), priority: 0, weight: 1, endpoints };
        Endpoints { name: "x".into(), localities: vec![locality] }
    }

    fn health(endpoints: &Endpoints) -> Vec<Health> {
        endpoints.localities[0].endpoints.iter().map(|e| e.health).collect()
    }

    #[test]
    fn who_leaves_is_not_chosen_unless_there_is_no_other() {
        use Health::{Draining, Healthy, Unhealthy};
        let leaving: BTreeSet<Arc<str>> = ["d/a".into(), "d/b".into()].into();
        let three = of(&[("d/a", Healthy, true), ("d/b", Unhealthy, true), ("d/c", Healthy, true)]);
        assert_eq!(health(&without(three, &leaving)), [Draining, Unhealthy, Healthy]);
        let last = of(&[("d/a", Healthy, true), ("d/c", Unhealthy, true)]);
        assert_eq!(health(&without(last, &leaving)), [Healthy, Unhealthy], "better than nobody");
        let plain = of(&[("d/a", Healthy, false), ("d/c", Healthy, true)]);
        assert_eq!(health(&without(plain, &leaving)), [Healthy, Healthy], "it has no sidecar that could say so");
    }
}
