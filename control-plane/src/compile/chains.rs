//! Many services may lead to one workload. Each has its server name; what is done with their connections is mostly the
//! same, and said once: thousands of equal chains would make a listener larger than a sidecar takes.

use std::collections::{HashMap, hash_map::Entry};
use weir_config::model::{ChainMatch, InboundChain, InboundTarget};

/// Up to so many chains keep the names of their services, for people.
const FEW: usize = 64;

/// Joins chains that do the same, where there are many: the first of them takes the server names of the others.
pub(super) fn joined(chains: Vec<InboundChain>) -> Vec<InboundChain> {
    if chains.len() <= FEW {
        return chains;
    }
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut joined: Vec<InboundChain> = Vec::new();
    for chain in chains {
        match places.entry(what_it_does(&chain)) {
            Entry::Occupied(place) => joined[*place.get()].matches.server_names.extend(chain.matches.server_names),
            Entry::Vacant(place) => {
                place.insert(joined.len());
                joined.push(chain);
            }
        }
    }
    joined
}

/// Everything but the names of the service. A chain that takes connections by their port is like no other.
fn what_it_does(chain: &InboundChain) -> String {
    let InboundChain { name: _, matches, tls, authz, target } = chain;
    let target = match target {
        InboundTarget::Http { routes, http } => {
            let mut routes = (**routes).clone();
            routes.virtual_hosts.iter_mut().for_each(|host| host.name = "".into());
            format!("{routes:?} {http:?}")
        }
        InboundTarget::Tcp { .. } => format!("{target:?}"),
    };
    let ChainMatch { server_names, destination_port, protocols } = matches;
    format!("{destination_port:?} {} {protocols:?} {tls:?} {authz:?} {target}", server_names.is_empty())
}
