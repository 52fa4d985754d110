//! Who is near a caller: which instances of a service are meant for which zones and nodes.
//!
//! Hints of EndpointSlices hold as kube-proxy has them: those for nodes if every instance that takes requests has some,
//! likewise those for zones. Where they say nothing, `trafficDistribution` does, by where instances are. (The cluster's
//! controller writes hints where it is set: then both say the same.)

use super::Item;
use std::{collections::BTreeSet, sync::Arc};
use weir_config::{
    model::Health,
    resources::{Distribution, Hint, Service, Workload},
};

/// How a service's requests are kept near; there is one only where they are.
#[derive(Debug)]
pub struct Near {
    by: By,
    /// The nodes whose callers have somebody of their own, and likewise the zones.
    nodes: BTreeSet<Arc<str>>,
    zones: BTreeSet<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// By hints.
    Hints,
    /// By where instances are.
    Places,
}

/// Where a caller is; a part that is not known is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Its zone.
    pub zone: &'a str,
    /// Its node.
    pub node: &'a str,
}

/// How far an instance is: the first are asked first.
const SAME_NODE: u32 = 0;
const SAME_ZONE: u32 = 1;
const ELSEWHERE: u32 = 2;

impl Near {
    /// Of a service, and those behind it. `None`: its requests go to all alike.
    pub(super) fn of(service: &Item<Service>, workloads: &[Arc<Item<Workload>>]) -> Option<Box<Self>> {
        let hinted = workloads.iter().any(|w| w.hint(service.name()).is_some());
        if service.distribution.is_none() && !hinted {
            return None;
        }
        let ready: Vec<_> = workloads.iter().filter(|w| w.health == Health::Healthy).collect();
        // Nobody counts unless all do.
        let for_all = |names: fn(&Hint) -> &[String]| -> BTreeSet<Arc<str>> {
            let said = ready.iter().map(|w| w.hint(service.name()).map(names).unwrap_or_default());
            let all: Vec<&[String]> = said.collect();
            let all_have = all.iter().all(|names| !names.is_empty());
            all.into_iter().filter(|_| all_have).flatten().map(|name| Arc::from(name.as_str())).collect()
        };
        let (nodes, zones) = (for_all(|hint| &hint.nodes), for_all(|hint| &hint.zones));
        if !nodes.is_empty() || !zones.is_empty() {
            return Some(Box::new(Self { by: By::Hints, nodes, zones }));
        }
        let wanted = service.distribution?;
        let mut zones: BTreeSet<Arc<str>> = ready.iter().map(|w| w.zone.as_str().into()).collect();
        let mut nodes: BTreeSet<_> = match wanted {
            Distribution::SameNode => ready.iter().map(|w| w.node.clone()).collect(),
            Distribution::SameZone => BTreeSet::new(),
        };
        // Who does not know where it is has no neighbours.
        zones.remove("");
        nodes.remove("");
        (!nodes.is_empty() || !zones.is_empty()).then(|| Box::new(Self { by: By::Places, nodes, zones }))
    }

    /// What of a caller's place matters: callers with the same have the same neighbours.
    pub fn matters<'a>(&self, caller: Caller<'a>) -> Caller<'a> {
        let kept = |all: &BTreeSet<Arc<str>>, name: &'a str| if all.contains(name) { name } else { "" };
        Caller { zone: kept(&self.zones, caller.zone), node: kept(&self.nodes, caller.node) }
    }

    /// How far an instance of the service is from a caller of whom this matters: 0 is nearest.
    pub fn distance(&self, service: &str, caller: Caller<'_>, workload: &Workload) -> u32 {
        // It gets nothing new, and says nothing of how much those near can take.
        if workload.health == Health::Draining {
            return ELSEWHERE;
        }
        let (node, zone) = match self.by {
            By::Hints => workload.hint(service).map_or((false, false), |hint| {
                let among = |all: &[String], name: &str| all.iter().any(|one| one == name);
                (among(&hint.nodes, caller.node), among(&hint.zones, caller.zone))
            }),
            By::Places => (*workload.node == *caller.node, *workload.zone == *caller.zone),
        };
        match (node && !caller.node.is_empty(), zone && !caller.zone.is_empty()) {
            (true, _) => SAME_NODE,
            (false, true) => SAME_ZONE,
            (false, false) => ELSEWHERE,
        }
    }
}
