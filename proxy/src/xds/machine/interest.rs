//! What has to be subscribed to: what is wanted, and what that names, and so on down to endpoints.

use super::{Entry, MAX_NAMES, Machine, Request, Stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use weir_config::{
    model::{Action, Cluster, Discovery, InboundTarget, Kind, Listener, ResourceName, RouteConfig, RouteSource},
    xds::{self, Item},
};

impl Machine {
    /// Brings the subscriptions in line with what is wanted now, and says what to send for it.
    pub(super) fn follow(&mut self, now: Instant) -> Vec<Request> {
        let wanted = self.wanted();
        let mut changes: BTreeMap<Kind, (Vec<String>, Vec<String>)> = BTreeMap::new();
        for key in &wanted {
            if !self.entries.contains_key(key) {
                self.entries.insert(key.clone(), Entry::waiting(now));
                changes.entry(key.0).or_default().0.push(key.1.to_string());
            }
        }
        self.entries.retain(|key, _| {
            let keep = wanted.contains(key);
            if !keep {
                changes.entry(key.0).or_default().1.push(key.1.to_string());
            }
            keep
        });
        if self.stream == Stream::Down {
            // The next stream begins with everything.
            return Vec::new();
        }
        let mut requests: Vec<_> = changes
            .into_iter()
            .map(|(kind, (subscribe, unsubscribe))| Request {
                type_url: xds::type_url(kind).to_owned(),
                resource_names_subscribe: subscribe,
                resource_names_unsubscribe: unsubscribe,
                ..Request::default()
            })
            .collect();
        self.introduce(&mut requests);
        requests
    }

    /// The roots, and all that is named by what is held, or by what is still in use while its successor warms.
    fn wanted(&self) -> BTreeSet<(Kind, ResourceName)> {
        let mut wanted = BTreeSet::new();
        let mut open: Vec<_> = self.roots.iter().cloned().collect();
        let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
        while let Some(key) = open.pop() {
            if wanted.contains(&key) {
                continue;
            }
            let count = counts.entry(key.0).or_default();
            if *count >= MAX_NAMES {
                continue;
            }
            *count += 1;
            if let Some(item) = self.entries.get(&key).and_then(Entry::item) {
                references(item, &mut |kind, name| open.push((kind, name.clone())));
            }
            self.published_references(&key, &mut |kind, name| open.push((kind, name.clone())));
            wanted.insert(key);
        }
        wanted
    }

    fn published_references(&self, (kind, name): &(Kind, ResourceName), found: &mut dyn FnMut(Kind, &ResourceName)) {
        match kind {
            Kind::Listener => {
                if let Some(x) = self.published.listeners.get(name) {
                    of_listener(x, found);
                }
            }
            Kind::Route => {
                if let Some(x) = self.published.routes.get(name) {
                    of_route(x, found);
                }
            }
            Kind::Cluster => {
                if let Some(x) = self.published.clusters.get(name) {
                    of_cluster(x, found);
                }
            }
            Kind::Secret | Kind::Endpoints => {}
        }
    }
}

/// What a resource names.
pub(super) fn references(item: &Item, found: &mut dyn FnMut(Kind, &ResourceName)) {
    match item {
        Item::Listener(listener) => of_listener(listener, found),
        Item::Route(route) => of_route(route, found),
        Item::Cluster(cluster) => of_cluster(cluster, found),
        Item::Endpoints(_) | Item::Secret(_) => {}
    }
}

pub(super) fn of_listener(listener: &Listener, found: &mut dyn FnMut(Kind, &ResourceName)) {
    match listener {
        Listener::Api(api) => match &api.routes {
            RouteSource::Rds(name) => found(Kind::Route, name),
            RouteSource::Inline(routes) => of_route(routes, found),
        },
        Listener::Inbound(inbound) => {
            for chain in &inbound.chains {
                match &chain.target {
                    InboundTarget::Http { routes, .. } => of_route(routes, found),
                    InboundTarget::Tcp { cluster, .. } => found(Kind::Cluster, cluster),
                }
            }
        }
    }
}

/// Also destinations without weight: their share may be raised at any time, and then it must not begin cold.
pub(super) fn of_route(routes: &RouteConfig, found: &mut dyn FnMut(Kind, &ResourceName)) {
    for route in routes.virtual_hosts.iter().flat_map(|host| &host.routes) {
        match &route.action {
            Action::Forward(forward) => forward.clusters.iter().for_each(|c| found(Kind::Cluster, &c.name)),
            Action::Redirect(_) | Action::Respond { .. } => {}
        }
    }
}

pub(super) fn of_cluster(cluster: &Cluster, found: &mut dyn FnMut(Kind, &ResourceName)) {
    match &cluster.discovery {
        Discovery::Eds(name) => found(Kind::Endpoints, name),
        Discovery::Static(_) | Discovery::Dns { .. } | Discovery::OriginalDestination => {}
    }
}
