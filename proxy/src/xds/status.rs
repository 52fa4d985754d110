//! How it stands with the control plane, for metrics, readiness and the admin page.

use crate::telemetry::Exposition;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tokio::sync::watch;
use weir_config::model::{Kind, ResourceName, Resources};

/// Refusals that are shown; further ones are only counted.
const MAX_SHOWN: usize = 64;

/// A resource that was refused.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A configuration in use.
#[derive(Debug, Default, Serialize)]
pub struct Published {
    /// A hash of the versions of its resources.
    pub version: String,
    /// All of it.
    pub resources: Resources,
    /// Authorities that do not exist.
    pub absent: BTreeSet<ResourceName>,
}

/// Numbers and words, written by the client and read by whoever asks.
#[derive(Debug)]
pub struct Status {
    connected: AtomicBool,
    connections: AtomicU64,
    refused: AtomicU64,
    accepted: AtomicU64,
    dropped_demand: AtomicU64,
    authorities: AtomicU64,
    applied: AtomicU64,
    published: ArcSwap<Published>,
    words: Mutex<Words>,
    configured: watch::Sender<bool>,
}

#[derive(Debug, Default, Clone)]
struct Words {
    last_error: Option<String>,
    refusals: Vec<Refusal>,
    last_applied: Option<SystemTime>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            connected: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            dropped_demand: AtomicU64::new(0),
            authorities: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            published: ArcSwap::default(),
            words: Mutex::default(),
            configured: watch::Sender::new(false),
        }
    }
}

impl Status {
    /// Whether there is a stream to the control plane.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Streams that were opened.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Resources that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Resources that were taken.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Authorities that were wanted above the limit.
    pub fn dropped_demand(&self) -> u64 {
        self.dropped_demand.load(Ordering::Relaxed)
    }

    /// Authorities that are subscribed to.
    pub fn authorities(&self) -> u64 {
        self.authorities.load(Ordering::Relaxed)
    }

    /// Configurations that were passed on.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// The configuration in use.
    pub fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// When a configuration was last passed on.
    pub fn last_applied(&self) -> Option<SystemTime> {
        self.words.lock().last_applied
    }

    /// Why there is no stream.
    pub fn last_error(&self) -> Option<String> {
        self.words.lock().last_error.clone()
    }

    /// What was refused and not replaced by something good since.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.words.lock().refusals.clone()
    }

    /// Turns true when the first configuration, from the control plane or from disk, is in use.
    pub fn configured(&self) -> watch::Receiver<bool> {
        self.configured.subscribe()
    }

    /// Tells the metrics that are states and not events.
    pub fn tell(&self, out: &mut Exposition) {
        let published = self.published();
        out.family("weir_config_version_info", "gauge", "The configuration in use: a hash of its resources' versions.")
            .sample([("version", &*published.version)], 1);
        out.family("weir_config_applied_total", "counter", "Configurations taken into use.").sample([], self.applied());
        out.family("weir_config_authorities", "gauge", "Authorities that are subscribed to.")
            .sample([], self.authorities());
        out.family(
            "weir_config_demand_dropped_total",
            "counter",
            "Authorities not asked for: above the limit, or none.",
        )
        .sample([], self.dropped_demand());
        out.family(
            "weir_config_refused",
            "gauge",
            "Resources whose last version was refused; the one before is in use.",
        )
        .sample([], self.words.lock().refusals.len());
        out.family("weir_control_plane_connections_total", "counter", "Streams to the control plane that were opened.")
            .sample([], self.connections());
    }

    pub(super) fn set_connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.words.lock().last_error = None;
    }

    pub(super) fn set_disconnected(&self, why: String) {
        self.connected.store(false, Ordering::Relaxed);
        self.words.lock().last_error = Some(why);
    }

    pub(super) fn note_response(&self, accepted: usize, refused: usize) {
        self.accepted.fetch_add(accepted as u64, Ordering::Relaxed);
        self.refused.fetch_add(refused as u64, Ordering::Relaxed);
    }

    pub(super) fn set_refusals<'a>(&self, refused: impl Iterator<Item = (Kind, &'a ResourceName, &'a str)>) {
        let shown = refused.take(MAX_SHOWN);
        self.words.lock().refusals =
            shown.map(|(kind, name, why)| Refusal { kind, name: name.to_string(), why: why.to_owned() }).collect();
    }

    pub(super) fn set_authorities(&self, n: usize) {
        self.authorities.store(n as u64, Ordering::Relaxed);
    }

    pub(super) fn note_dropped_demand(&self) {
        self.dropped_demand.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_applied(&self, resources: Resources, absent: BTreeSet<ResourceName>, version: String) {
        self.applied.fetch_add(1, Ordering::Relaxed);
        self.published.store(Arc::new(Published { version, resources, absent }));
        self.words.lock().last_applied = Some(SystemTime::now());
    }

    pub(super) fn set_configured(&self) {
        self.configured.send_if_modified(|configured| !std::mem::replace(configured, true));
    }
}
