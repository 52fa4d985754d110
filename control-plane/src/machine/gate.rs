//! Make before break: what may be sent now, and what has to wait for an acknowledgement.
//!
//! The gate looks at the resources that name each other, not at whole kinds: a cluster that is slow to be acknowledged
//! holds back the routes that name it and no others.

use super::{Encoded, Machine, Name, View, item::Held};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};
use weir_config::model::Kind;

/// What the client may still hold a reference to, though it should not.
#[derive(Debug, Default)]
pub(super) struct StillNamed {
    names: HashSet<(Kind, Name)>,
    /// After a reconnect it may hold a listener or route of which we know only the version.
    unknown: bool,
}

impl StillNamed {
    /// Whether taking this away could break something.
    pub(super) fn has(&self, kind: Kind, name: &Name) -> bool {
        let nameable = matches!(kind, Kind::Cluster | Kind::Endpoints | Kind::Route);
        (self.unknown && nameable) || self.names.contains(&(kind, name.clone()))
    }
}

impl Machine {
    /// Whether a pushed resource may go: everything that it names and that the client subscribes to is in place.
    /// What the client does not subscribe to yet, it asks for when it sees the name, and waits for itself.
    pub(super) fn ready(&self, kind: Kind, resource: &Encoded, view: &dyn View) -> bool {
        match kind {
            Kind::Secret | Kind::Cluster | Kind::Endpoints => true,
            Kind::Listener | Kind::Route => {
                clusters(resource, view).iter().all(|cluster| self.cluster_in_place(cluster, view))
            }
        }
    }

    fn cluster_in_place(&self, name: &str, view: &dyn View) -> bool {
        let clusters = self.sub(Kind::Cluster);
        if !clusters.subscribed(name) {
            return true;
        }
        // A route may name a cluster that does not exist; waiting for it would be for ever.
        let Some(want) = view.resource(Kind::Cluster, name) else { return true };
        let Some(item) = clusters.items.get(name) else { return false };
        // A refused change leaves the client with the version before it, which still serves.
        if !item.settled() || !item.sent.is(Some(&want)) || item.applied == Held::Nothing {
            return false;
        }
        let endpoints = want.refs.iter().filter(|(kind, _)| *kind == Kind::Endpoints);
        endpoints.into_iter().all(|(_, name)| self.endpoints_in_place(name, view))
    }

    fn endpoints_in_place(&self, name: &str, view: &dyn View) -> bool {
        let endpoints = self.sub(Kind::Endpoints);
        if !endpoints.subscribed(name) || view.resource(Kind::Endpoints, name).is_none() {
            return true;
        }
        // Later changes of the endpoints do not matter, or a busy service would never get its routes; the answer
        // that takes the cluster out of warming does.
        endpoints.items.get(name).is_some_and(|i| i.verdict_nonce >= i.answer_nonce && i.applied != Held::Nothing)
    }

    /// All names that outdated resources of the client may still point to.
    pub(super) fn still_named(&self) -> StillNamed {
        let mut still = StillNamed::default();
        for kind in [Kind::Listener, Kind::Route, Kind::Cluster] {
            let sub = self.sub(kind);
            for (name, item) in &sub.items {
                let want = match sub.due.get(name) {
                    Some(due) => due.want.as_ref(),
                    None => item.sent.resource(),
                };
                for held in [&item.applied, &item.sent] {
                    if !held.is(want) {
                        still.names.extend(held.refs().iter().cloned());
                        still.unknown |= matches!(held, Held::Known(_)) && kind != Kind::Cluster;
                    }
                }
            }
        }
        still
    }

    /// Before an answer names a cluster, that cluster is sent too, if the client subscribes to it and holds another
    /// version: answers are not held back, so what they need goes ahead of them.
    pub(super) fn escort(&mut self, view: &dyn View) {
        let mut needed: BTreeSet<Name> = BTreeSet::new();
        for kind in [Kind::Listener, Kind::Route] {
            let owed = self.sub(kind).due.values().filter(|d| d.owed).filter_map(|d| d.want.as_ref());
            needed.extend(owed.flat_map(|resource| clusters(resource, view)));
        }
        let due = &mut self.sub_mut(Kind::Cluster).due;
        for name in needed {
            if let Some(due) = due.get_mut(&name) {
                due.owed |= due.want.is_some();
            }
        }
    }
}

/// The clusters that a listener or route leads to, through the routes it names.
fn clusters(resource: &Encoded, view: &dyn View) -> Vec<Name> {
    let of = |r: &Encoded| -> Vec<Name> {
        r.refs.iter().filter(|(kind, _)| *kind == Kind::Cluster).map(|(_, name)| name.clone()).collect()
    };
    let mut all = of(resource);
    for (_, route) in resource.refs.iter().filter(|(kind, _)| *kind == Kind::Route) {
        let route: Option<Arc<Encoded>> = view.resource(Kind::Route, route);
        all.extend(route.iter().flat_map(|r| of(r)));
    }
    all
}
