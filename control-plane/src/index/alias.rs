//! Services of `type: ExternalName`: another name of something. What they lead to holds with everything that is its own:
//! a Service of the mesh with its identity, routes and policies. The name itself is one of its own namespace, and shadows
//! nobody else's.

use super::{ServiceEntry, World};
use std::sync::Arc;
use weir_config::resources::{MOST_NAMES, is_within, service_of};

/// What a Service's name leads to.
pub enum Leads<'a> {
    /// A Service that is no other name of anything; mostly the very one.
    Service(&'a Arc<ServiceEntry>),
    /// Something else that the cluster's own DNS answers for, by its full name.
    Within(&'a str),
    /// A host outside the cluster, and the last name on the way to it.
    Outside(&'a Arc<ServiceEntry>, &'a str),
}

pub(super) fn follow<'a>(world: &'a World, service: &'a Arc<ServiceEntry>) -> Option<Leads<'a>> {
    let domain = world.mesh().cluster_domain.as_str();
    let mut at = service;
    for _ in 0..=MOST_NAMES {
        let Some(name) = at.external_name.as_deref() else { return Some(Leads::Service(at)) };
        match service_of(name, domain) {
            Some((namespace, service)) => at = world.service(namespace, service)?,
            None if is_within(name, domain) => return Some(Leads::Within(name)),
            None => return Some(Leads::Outside(at, name)),
        }
    }
    None
}
