//! What host names mean: the addresses to answer an application's question with. Asked for when a name is first asked,
//! and forgotten when it has long not been.

use super::{Snapshot, State};
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use weir_config::model::{Endpoints, Health, NAME, ResourceName, Resources};

/// What is known of a name.
#[derive(Clone)]
pub enum NameEntry {
    /// It is of the mesh.
    Known(Arc<Named>),
    /// It is not.
    Absent,
}

/// A name of the mesh.
pub struct Named {
    /// Where it leads; may be empty.
    pub addresses: Vec<IpAddr>,
    source: Arc<Endpoints>,
    used: Arc<AtomicU64>,
}

impl State {
    /// What a name means (lower case, without a dot at its end): at once where it is known, else asked for and awaited for
    /// at most `patience`. `None`: not known in time.
    pub async fn name(&self, name: &str, patience: Duration) -> Option<NameEntry> {
        let wanted: Arc<str> = format!("{NAME}{name}").into();
        let mut changed = self.changed.subscribe();
        if let Some(found) = self.known_name(&wanted) {
            return Some(found);
        }
        let limit = tokio::time::Instant::now() + patience;
        self.demand.want(&wanted);
        while tokio::time::timeout_at(limit, changed.changed()).await.is_ok_and(|alive| alive.is_ok()) {
            if let Some(found) = self.known_name(&wanted) {
                return Some(found);
            }
        }
        None
    }

    fn known_name(&self, wanted: &str) -> Option<NameEntry> {
        let found = self.load().names.get(wanted).cloned();
        if let Some(NameEntry::Known(named)) = &found {
            let now = Instant::now().saturating_duration_since(self.parts.born).as_secs();
            named.used.store(now, Ordering::Relaxed);
        }
        found
    }
}

impl Snapshot {
    /// Names that nobody has asked for `idle`.
    pub(super) fn idle_names(&self, now: Duration, idle: Duration) -> impl Iterator<Item = ResourceName> + '_ {
        let quiet =
            move |named: &Named| now.saturating_sub(Duration::from_secs(named.used.load(Ordering::Relaxed))) > idle;
        self.names
            .iter()
            .filter(move |(_, entry)| matches!(entry, NameEntry::Known(named) if quiet(named)))
            .map(|(name, _)| name.clone())
    }
}

/// The names of a configuration; what has not changed is taken over.
pub(super) fn known(
    before: &Snapshot,
    resources: &Resources,
    absent: &BTreeSet<ResourceName>,
    now: Duration,
) -> HashMap<Arc<str>, NameEntry> {
    let absent = absent.iter().filter(|name| name.starts_with(NAME)).map(|name| (name.clone(), NameEntry::Absent));
    let mut names: HashMap<_, _> = absent.collect();
    // Sorted by name: those of host names stand together.
    let known = resources
        .endpoints
        .range::<str, _>((Bound::Included(NAME), Bound::Unbounded))
        .take_while(|(name, _)| name.starts_with(NAME));
    names.extend(known.map(|(name, source)| (name.clone(), NameEntry::Known(named(before, name, source, now)))));
    names
}

fn named(before: &Snapshot, name: &str, source: &Arc<Endpoints>, now: Duration) -> Arc<Named> {
    let used = match before.names.get(name) {
        Some(NameEntry::Known(old)) if Arc::ptr_eq(&old.source, source) => return old.clone(),
        Some(NameEntry::Known(old)) => old.used.clone(),
        _ => Arc::new(now.as_secs().into()),
    };
    let all = || source.localities.iter().flat_map(|l| &l.endpoints);
    let healthy = |address: &&weir_config::model::Endpoint| address.health == Health::Healthy;
    let mut addresses: Vec<_> = all().filter(healthy).map(|e| e.address.ip()).collect();
    if addresses.is_empty() {
        // None that is well is no reason to say that there are none.
        addresses = all().map(|e| e.address.ip()).collect();
    }
    Arc::new(Named { addresses, source: source.clone(), used })
}
