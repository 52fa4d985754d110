//! One proxy as the control plane sees it.

use super::Trust;
use crate::machine::Standing;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};
use weir_config::model::Kind;

/// Who a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// `node.id`: `<namespace>/<workload>`.
    pub node: String,
    /// The SPIFFE identity of its certificate; empty where none is asked for.
    pub identity: String,
    /// Where it connects from.
    pub address: Option<SocketAddr>,
    /// Its version, as it says.
    pub version: String,
    /// What it says it is: `weir`, `envoy`, `gRPC C-core`, …
    pub agent: String,
    /// `delta` or `sotw`.
    pub protocol: &'static str,
}

/// A proxy's status.
#[derive(Debug, Clone)]
pub struct ProxyStatus {
    /// Who it is.
    pub who: Who,
    /// Whether it is connected now.
    pub connected: bool,
    /// Since when it is connected, or gone.
    pub since: SystemTime,
    /// The newest version of the documents that it is known to run on.
    pub applied_version: u64,
    /// The newest version that was looked at for it.
    pub looked_version: u64,
    /// Sent, applied, refused, for each kind of resource.
    pub standings: [(Kind, Standing); 5],
    /// What it refused last, and why.
    pub last_refusal: Option<LastRefusal>,
}

impl ProxyStatus {
    /// How many resources it asks for, without those that a wildcard covers.
    pub fn subscribed(&self) -> usize {
        self.standings.iter().map(|(_, s)| s.subscribed).sum()
    }

    /// The resources whose present version it refuses, and why.
    pub fn refused(&self) -> impl Iterator<Item = (Kind, &Arc<str>, &Arc<str>)> {
        self.standings.iter().flat_map(|(kind, s)| s.refused.iter().map(|(name, why)| (*kind, name, why)))
    }
}

/// The last refusal of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRefusal {
    /// When.
    pub at: SystemTime,
    /// Of which kind of resource.
    pub kind: Kind,
    /// Which (shortened to 32).
    pub names: Vec<Arc<str>>,
    /// In the proxy's words.
    pub message: String,
}

/// A connected proxy.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) who: Who,
    since: SystemTime,
    /// The newest version that its stream has looked at.
    pub(super) looked: u64,
    /// Changes that concern it and that it has not settled, the oldest first.
    pub(super) waiting: VecDeque<u64>,
    pub(super) behind_since: Option<u64>,
    pub(super) standings: [(Kind, Standing); 5],
    pub(super) last_refusal: Option<LastRefusal>,
    pub(super) trust: Trust,
    pub(super) arrived: Instant,
    /// It has said that it goes down.
    pub(super) leaves: bool,
}

impl Connected {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            since: SystemTime::now(),
            looked: 0,
            waiting: VecDeque::new(),
            behind_since: None,
            standings: Kind::ALL.map(|kind| (kind, Standing::default())),
            last_refusal: None,
            trust: Trust::default(),
            arrived: Instant::now(),
            leaves: false,
        }
    }

    pub(super) fn status(&self) -> ProxyStatus {
        ProxyStatus {
            who: self.who.clone(),
            connected: true,
            since: self.since,
            applied_version: self.behind_since.map_or(self.looked, |v| v.saturating_sub(1).min(self.looked)),
            looked_version: self.looked,
            standings: self.standings.clone(),
            last_refusal: self.last_refusal.clone(),
        }
    }

    /// Its status after it has left.
    pub(super) fn left(self) -> ProxyStatus {
        ProxyStatus { connected: false, since: SystemTime::now(), ..self.status() }
    }
}
