//! What is passed on for use: each resource in its newest version that is complete, made before what it replaces breaks.
//!
//! From the ground up: endpoints as they are; a cluster once its endpoints have been answered; a route once all of its
//! clusters are in the set; a listener once its route is. What is not complete stays in the version in use. What no
//! listener in the set leads to is left out.

use super::{Answer, INBOUND, Machine, Request, Stream, WARMING_LIMIT, interest};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};
use weir_config::{
    model::{Kind, ResourceName, Resources},
    xds::Item,
};

/// A configuration to be used.
#[derive(Debug)]
pub struct Published {
    /// All of it.
    pub resources: Resources,
    /// Authorities that the control plane says do not exist.
    pub absent: BTreeSet<ResourceName>,
    /// To be sent.
    pub requests: Vec<Request>,
}

impl Machine {
    /// The configuration to be used, and the authorities that do not exist, if anything in them has changed. The messages
    /// give up what only the configuration before needed.
    pub fn publish(&mut self, now: Instant) -> Option<Published> {
        let mut next = self.complete(now);
        prune(&mut next, &self.roots);
        let absent: BTreeSet<_> = self.absent_authorities().map(|(name, _)| name).collect();
        if same(&next, &self.published) && absent == self.absent {
            return None;
        }
        self.published = next.clone();
        self.absent = absent.clone();
        Some(Published { resources: next, absent, requests: self.follow(now) })
    }

    /// When something that waits will next be used without what it waits for.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.stream == Stream::Down {
            return None;
        }
        let ends = self.entries.values().filter(|e| !matches!(e.answer, Answer::Absent));
        ends.filter_map(|e| e.since.checked_add(WARMING_LIMIT)).filter(|end| *end > now).min()
    }

    /// Whether everything that is wanted has been answered, or waited for long enough. The node's own listener is waited
    /// for as long as it takes: a sidecar that was never told how to serve would refuse whatever is sent to it.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.entries.iter().all(|((kind, name), entry)| match &entry.answer {
            Answer::Held { .. } => true,
            Answer::Waiting if name.starts_with(INBOUND) => false,
            Answer::Waiting | Answer::Absent => self.need_not_wait(*kind, name, now),
        })
    }

    /// The process has stood still since `due`, when it should have looked (a container that was paused, a machine that
    /// was moved): what came meanwhile has not been read. What has been waited for long enough only by that is waited for
    /// anew.
    pub fn excuse(&mut self, due: Instant, now: Instant) {
        for entry in self.entries.values_mut() {
            let end = entry.since.checked_add(WARMING_LIMIT);
            if end.is_some_and(|end| (due..=now).contains(&end)) {
                entry.since = now;
            }
        }
    }

    fn complete(&self, now: Instant) -> Resources {
        let mut next = Resources::default();
        for ((kind, name), entry) in &self.entries {
            match entry.item() {
                Some(Item::Secret(x)) => drop(next.bundles.insert(name.clone(), x.clone())),
                Some(Item::Endpoints(x)) => drop(next.endpoints.insert(name.clone(), x.clone())),
                // A bundle stays in use even when it is said to be gone: without one nothing can be verified.
                None if *kind == Kind::Secret => carry(&mut next.bundles, &self.published.bundles, name),
                _ => {}
            }
        }
        // `Kind::ALL` has this order: each kind is looked at when what it names has been.
        for kind in [Kind::Cluster, Kind::Route, Kind::Listener] {
            for ((_, name), entry) in self.entries.iter().filter(|((k, _), _)| *k == kind) {
                self.place(&mut next, kind, name, entry, now);
            }
        }
        next
    }

    fn place(&self, next: &mut Resources, kind: Kind, name: &ResourceName, entry: &super::Entry, now: Instant) {
        let ready = entry.item().is_some_and(|item| self.is_complete(item, next, now));
        match (entry.item(), &entry.answer) {
            (Some(Item::Cluster(x)), _) if ready => drop(next.clusters.insert(name.clone(), x.clone())),
            (Some(Item::Route(x)), _) if ready => drop(next.routes.insert(name.clone(), x.clone())),
            (Some(Item::Listener(x)), _) if ready => drop(next.listeners.insert(name.clone(), x.clone())),
            (_, Answer::Absent) => {}
            _ => match kind {
                Kind::Cluster => carry(&mut next.clusters, &self.published.clusters, name),
                Kind::Route => carry(&mut next.routes, &self.published.routes, name),
                Kind::Listener => carry(&mut next.listeners, &self.published.listeners, name),
                Kind::Secret | Kind::Endpoints => {}
            },
        }
    }

    /// Whether all that it names is in the set, does not exist, or has been waited for long enough.
    fn is_complete(&self, item: &Item, next: &Resources, now: Instant) -> bool {
        let mut complete = true;
        interest::references(item, &mut |kind, name| {
            let there = match kind {
                Kind::Cluster => next.clusters.contains_key(name),
                Kind::Route => next.routes.contains_key(name),
                Kind::Endpoints => next.endpoints.contains_key(name),
                Kind::Listener | Kind::Secret => true,
            };
            complete &= there || self.need_not_wait(kind, name, now);
        });
        complete
    }

    fn need_not_wait(&self, kind: Kind, name: &ResourceName, now: Instant) -> bool {
        let Some(entry) = self.entries.get(&(kind, name.clone())) else {
            // Above the limit of names: it will never come.
            return true;
        };
        match &entry.answer {
            Answer::Absent => true,
            // It came and waits itself, or it has not come. Without a stream nothing can come: then we wait on.
            Answer::Held { .. } | Answer::Waiting => {
                self.stream != Stream::Down && now.saturating_duration_since(entry.since) >= WARMING_LIMIT
            }
        }
    }
}

fn carry<T>(next: &mut BTreeMap<ResourceName, Arc<T>>, before: &BTreeMap<ResourceName, Arc<T>>, name: &ResourceName) {
    if let Some(x) = before.get(name) {
        next.insert(name.clone(), x.clone());
    }
}

/// Leaves out what no wanted listener leads to.
fn prune(resources: &mut Resources, roots: &BTreeSet<(Kind, ResourceName)>) {
    resources.listeners.retain(|name, _| roots.contains(&(Kind::Listener, name.clone())));
    let mut used = named(resources.listeners.values(), interest::of_listener);
    resources.routes.retain(|name, _| used.contains(&(Kind::Route, name.clone())));
    used.extend(named(resources.routes.values(), interest::of_route));
    resources.clusters.retain(|name, _| used.contains(&(Kind::Cluster, name.clone())));
    let used = named(resources.clusters.values(), interest::of_cluster);
    resources.endpoints.retain(|name, _| {
        let key = (Kind::Endpoints, name.clone());
        used.contains(&key) || roots.contains(&key)
    });
}

/// What these resources name.
fn named<'a, T: 'a>(
    resources: impl Iterator<Item = &'a Arc<T>>,
    references: impl Fn(&T, &mut dyn FnMut(Kind, &ResourceName)),
) -> BTreeSet<(Kind, ResourceName)> {
    let mut names = BTreeSet::new();
    for resource in resources {
        references(resource, &mut |kind, name| {
            names.insert((kind, name.clone()));
        });
    }
    names
}

fn same(a: &Resources, b: &Resources) -> bool {
    same_map(&a.bundles, &b.bundles)
        && same_map(&a.clusters, &b.clusters)
        && same_map(&a.endpoints, &b.endpoints)
        && same_map(&a.listeners, &b.listeners)
        && same_map(&a.routes, &b.routes)
}

/// By address: a version that came again was not decoded again.
fn same_map<T>(a: &BTreeMap<ResourceName, Arc<T>>, b: &BTreeMap<ResourceName, Arc<T>>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((n, x), (m, y))| n == m && Arc::ptr_eq(x, y))
}
