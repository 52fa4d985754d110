//! The one snapshot that all requests are served by, and the living parts (pools, breakers, budgets, averages) that it
//! hands to its successor.

mod build;
mod cluster;
mod demand;
mod inbound;
mod names;
mod probes;
mod routes;
mod tell;

pub use cluster::{Call, Chosen, Cluster, Endpoint};
pub use demand::{Demand, Wanted};
pub use inbound::{Chains, Inbound, InboundChain, InboundService};
pub use names::{NameEntry, Named};
pub use probes::{AtPort, Probes};
pub use routes::{Forward, Route, RouteAction, RouteTable, Target};

use crate::{resolve::Resolver, telemetry::Metrics, tls, upstream::Beside};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use weir_config::{
    bootstrap::Probe,
    model::{self, HttpOptions, ResourceName},
};

/// What the whole process serves by.
pub struct State {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
    demand: Demand,
    parts: Parts,
}

/// What building a snapshot needs besides the resources.
pub struct Parts {
    /// Data threads.
    pub workers: usize,
    /// Makes TLS connections with this process's identity.
    pub client: Arc<tls::Client>,
    /// Finds hosts outside the mesh.
    pub resolver: Arc<Resolver>,
    /// Where else than on loopback the application may listen.
    pub beside: Arc<Beside>,
    /// Where metric handles come from.
    pub metrics: Arc<Metrics>,
    /// What this sidecar's workload is called in metrics.
    pub workload: Arc<str>,
    /// Against which idle times are counted.
    pub born: Instant,
}

/// One configuration, immutable. A request loads it once and keeps it to its end.
#[derive(Default)]
pub struct Snapshot {
    /// Counts up.
    pub version: u64,
    /// What applications may call, by the authority as they say it.
    pub hosts: HashMap<Arc<str>, HostEntry>,
    /// What host names mean, as they were asked for.
    pub names: HashMap<Arc<str>, NameEntry>,
    /// Destinations by name.
    pub clusters: HashMap<ResourceName, Arc<Cluster>>,
    /// What is accepted for our application.
    pub inbound: Option<Arc<Inbound>>,
    tables: HashMap<ResourceName, (Arc<model::RouteConfig>, Arc<RouteTable>)>,
}

/// What is known of an authority.
#[derive(Clone)]
pub enum HostEntry {
    /// It has routes.
    Ready(Arc<Host>),
    /// The control plane says that there is no such thing.
    Absent,
}

/// An authority that applications may call.
pub struct Host {
    /// As they say it.
    pub name: Arc<str>,
    /// Its routes.
    pub routes: Arc<RouteTable>,
    /// How HTTP is served.
    pub http: HttpOptions,
    /// What is spoken to it.
    pub speech: Speech,
    /// It is an address: first bytes that name a host lead there.
    pub by_name: bool,
    /// Whether its clients were the first to speak so far, with HTTP: where that is detected.
    pub clients_speak_http: Arc<AtomicBool>,
    used: Arc<AtomicU64>,
}

/// What is spoken to a destination, as its configuration has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// HTTP.
    Http,
    /// Bytes.
    Bytes,
    /// It is told by each connection's first bytes.
    Detect,
    /// Whatever it is: it is not of the mesh, and carried as bytes to where it was meant to go.
    Outside,
}

impl State {
    /// An empty state; nothing is configured yet. The second value is the other end of [`Demand`].
    pub fn new(parts: Parts) -> (Arc<Self>, Wanted) {
        let (demand, wanted) = Demand::new();
        let metrics = parts.metrics.clone();
        let state = Arc::new(Self { current: ArcSwap::default(), changed: watch::Sender::new(0), demand, parts });
        let told = Arc::downgrade(&state);
        metrics.add_source(move |out| {
            if let Some(state) = told.upgrade() {
                state.tell(out);
            }
        });
        (state, wanted)
    }

    /// What a kubelet may ask the application.
    pub fn probes(&self, probes: &[Probe]) -> Probes {
        Probes::new(&self.parts, probes)
    }

    /// Where else than on loopback the application may listen.
    pub fn beside(&self) -> &Beside {
        &self.parts.beside
    }

    /// The present configuration.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces the configuration: everything that did not change, and everything alive in what changed, is carried over.
    /// `absent`: authorities that the control plane says do not exist. Called by one task only.
    pub fn apply(&self, resources: &model::Resources, absent: &BTreeSet<ResourceName>) {
        let before = self.load();
        let next = build::snapshot(&self.parts, &before, resources, absent);
        let version = next.version;
        self.current.store(Arc::new(next));
        self.demand.settled(|authority| {
            let now = self.current.load();
            now.hosts.contains_key(authority) || now.names.contains_key(authority)
        });
        self.changed.send_replace(version);
    }

    /// Authorities that nobody has called for `idle`.
    pub fn idle_hosts(&self, idle: Duration) -> Vec<ResourceName> {
        let now = self.parts.born.elapsed();
        let snapshot = self.current.load();
        snapshot
            .hosts
            .values()
            .filter_map(|entry| match entry {
                HostEntry::Ready(host) => Some(host),
                HostEntry::Absent => None,
            })
            .filter(|host| now.saturating_sub(Duration::from_secs(host.used.load(Ordering::Relaxed))) > idle)
            .map(|host| host.name.clone())
            .chain(snapshot.idle_names(now, idle))
            .collect()
    }

    /// The routes of an authority: at once where they are known, else asked for and awaited for at most `patience`.
    /// `None`: not known in time. The snapshot is the one in which it was found.
    pub async fn host(
        &self,
        snapshot: Arc<Snapshot>,
        authority: &str,
        patience: Duration,
    ) -> Option<(Arc<Snapshot>, HostEntry)> {
        if let Some(found) = self.known(&snapshot, authority, Instant::now()) {
            return Some((snapshot, found));
        }
        let mut changed = self.changed.subscribe();
        let limit = tokio::time::Instant::now() + patience;
        self.demand.want(&with_port(authority));
        loop {
            let snapshot = self.load();
            if let Some(found) = self.known(&snapshot, authority, Instant::now()) {
                return Some((snapshot, found));
            }
            if tokio::time::timeout_at(limit, changed.changed()).await.is_err() {
                return None;
            }
        }
    }

    /// What a snapshot knows of an authority that is called `now`.
    pub fn known(&self, snapshot: &Snapshot, authority: &str, now: Instant) -> Option<HostEntry> {
        let entry = match snapshot.hosts.get(authority) {
            Some(entry) => entry,
            None if has_port(authority) || is_address(authority) => return None,
            None => snapshot.hosts.get(&*with_port(authority))?,
        };
        if let HostEntry::Ready(host) = entry {
            let now = now.saturating_duration_since(self.parts.born).as_secs();
            // Read first: the line stays shared between threads unless the second has changed.
            if host.used.load(Ordering::Relaxed) != now {
                host.used.store(now, Ordering::Relaxed);
            }
        }
        Some(entry.clone())
    }
}

/// The name of a captured connection's destination: `<address>_<port>`.
fn is_address(text: &str) -> bool {
    text.rsplit_once('_').is_some_and(|(address, _)| address.parse::<std::net::IpAddr>().is_ok())
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']'))
    })
}

/// Authorities are known with their port; without one, HTTP's is meant.
fn with_port(authority: &str) -> Arc<str> {
    if has_port(authority) || is_address(authority) { authority.into() } else { format!("{authority}:80").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_from_an_ipv6_address() {
        for (authority, with) in [
            ("a", "a:80"),
            ("a:8080", "a:8080"),
            ("[::1]", "[::1]:80"),
            ("[::1]:5", "[::1]:5"),
            ("a_b", "a_b:80"),
            ("10.0.0.1_80", "10.0.0.1_80"),
            ("fd00::7_80", "fd00::7_80"),
        ] {
            assert_eq!(&*with_port(authority), with);
        }
    }
}
