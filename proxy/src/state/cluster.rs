//! A destination: its endpoints, how one is chosen, and the parts that outlive a change of the configuration.

use crate::{
    error::{Error, Kind, Result},
    logic::{
        ClusterLimits, EndpointHealth, Member, Outcome, Outlier, Part, PeakEwma, Picker, RetryBudget, Ticket, View,
        outlier::{Change, Transition},
    },
    telemetry::ClusterMetrics,
    upstream::{Dialer, Pool},
};
use std::{net::SocketAddr, sync::Arc, time::Instant};
use weir_config::model::{self, LoadBalancing, Protocol};

/// A destination.
pub struct Cluster {
    /// What it was made from.
    pub config: Arc<model::Cluster>,
    /// How connections are made.
    pub dialer: Dialer,
    /// Circuit breaking by limits.
    pub limits: Arc<ClusterLimits>,
    /// Retries in proportion to requests.
    pub budget: Arc<RetryBudget>,
    /// Its instances; their places here are their slots.
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// What is counted.
    pub metrics: Arc<ClusterMetrics>,
    pub(super) source: Arc<model::Endpoints>,
    pub(super) picker: Picker,
    pub(super) outlier: Option<Outlier>,
    /// Against which the picker's time is counted.
    pub(super) born: Instant,
}

/// One instance: it lives as long as its address stays in the cluster.
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// What it is called; may be empty.
    pub workload: Arc<str>,
    /// Whether it speaks mutual TLS where its cluster does.
    pub mesh: bool,
    /// Its connections.
    pub pool: Pool,
    /// Its speed.
    pub load: Arc<PeakEwma>,
    /// Its breaker.
    pub health: Arc<EndpointHealth>,
}

/// The endpoint that was chosen for a request.
#[derive(Clone)]
pub struct Chosen {
    /// Its place in the cluster.
    pub slot: usize,
    /// Itself.
    pub endpoint: Arc<Endpoint>,
    /// Ejections were ignored when it was chosen.
    pub panicking: bool,
}

/// A request, or connection, at an endpoint: dropped when it has ended.
pub struct Call {
    cluster: Arc<Cluster>,
    slot: usize,
    ticket: Ticket,
}

impl Cluster {
    /// Chooses an endpoint, avoiding those that were tried while there are others.
    ///
    /// # Errors
    /// `no_healthy_endpoint`, `circuit_open`.
    pub fn pick(&self, tried: &[usize], now: Instant) -> Result<Chosen> {
        self.sweep(now);
        let picked = match self.picker.pick(&Now { cluster: self, now }, tried, &mut rand::rng()) {
            Some(picked) => picked,
            None => return Err(self.nobody()),
        };
        let endpoint = self.endpoints.get(picked.slot).ok_or_else(|| Error::new(Kind::Internal))?;
        Ok(Chosen { slot: picked.slot, endpoint: endpoint.clone(), panicking: picked.panicking })
    }

    /// A request begins at an endpoint.
    pub fn begin(self: &Arc<Self>, chosen: &Chosen, now: Instant) -> Call {
        Call { cluster: self.clone(), slot: chosen.slot, ticket: chosen.endpoint.load.start(now) }
    }

    /// Endpoints that requests go to now: of many, as many as the load asks for.
    pub fn used(&self) -> usize {
        self.picker.used()
    }

    /// Endpoints that are ejected now.
    pub fn ejected(&self) -> usize {
        self.endpoints.iter().filter(|e| e.health.is_ejected()).count()
    }

    fn nobody(&self) -> Error {
        if self.outlier.as_ref().is_some_and(Outlier::is_open) {
            return Kind::CircuitOpen.detail(format!(
                "all {} endpoints of {} are ejected",
                self.endpoints.len(),
                self.config.name
            ));
        }
        Kind::NoHealthyEndpoint.detail(match self.endpoints.len() {
            0 => format!("{} has no endpoints", self.config.name),
            n => format!("none of the {n} endpoints of {} takes requests", self.config.name),
        })
    }

    fn sweep(&self, now: Instant) {
        if let Some(outlier) = &self.outlier {
            for change in outlier.sweep(now) {
                self.tell(change);
            }
        }
    }

    fn record(&self, slot: usize, outcome: Outcome, now: Instant) {
        if let Some(outlier) = &self.outlier
            && let Some(change) = outlier.record(slot, outcome, now)
        {
            self.tell(change);
        }
    }

    fn tell(&self, change: Change) {
        let endpoint = self.endpoints.get(change.slot).map_or_else(String::new, |e| e.address.to_string());
        match change.to {
            Transition::Ejected(cause, length) => {
                self.metrics.ejected(cause.as_str());
                tracing::info!(cluster = %self.config.name, endpoint, cause = cause.as_str(), ?length, "endpoint ejected");
            }
            Transition::Returned => {
                self.metrics.returned();
                tracing::info!(cluster = %self.config.name, endpoint, "endpoint returned");
            }
        }
    }
}

impl Call {
    /// The response's headers have come.
    pub fn answered(&mut self, outcome: Outcome, now: Instant) {
        if outcome.is_failure() {
            self.ticket.failed(now);
        } else {
            self.ticket.answered(now);
        }
        self.cluster.record(self.slot, outcome, now);
    }

    /// There was no response.
    pub fn failed(&mut self, kind: Kind) {
        if kind.blames_endpoint() {
            let now = Instant::now();
            self.ticket.failed(now);
            self.cluster.record(self.slot, Outcome::GatewayFailure, now);
        } else {
            self.abandoned();
        }
    }

    /// The caller went away first.
    pub fn abandoned(&mut self) {
        self.ticket.abandoned(Instant::now());
    }
}

/// The cluster as a pick sees it.
struct Now<'c> {
    cluster: &'c Cluster,
    now: Instant,
}

impl View for Now<'_> {
    fn is_available(&self, slot: usize) -> bool {
        self.cluster.outlier.as_ref().is_none_or(|o| o.is_available(slot))
    }

    fn load(&self, slot: usize) -> f64 {
        let Some(endpoint) = self.cluster.endpoints.get(slot) else { return f64::MAX };
        match self.cluster.config.load_balancing {
            LoadBalancing::PeakEwma { .. } => endpoint.load.cost(self.now),
            _ => f64::from(endpoint.load.in_flight()),
        }
    }

    fn generation(&self) -> u64 {
        self.cluster.outlier.as_ref().map_or(0, Outlier::generation)
    }

    fn under_way(&self) -> u64 {
        self.cluster.limits.requests.used().into()
    }

    fn millis(&self) -> u64 {
        millis(self.cluster.born, self.now)
    }
}

/// The time of a picker.
pub(super) fn millis(born: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(born).as_millis()).unwrap_or(u64::MAX)
}

/// How much of many endpoints a sidecar uses. Requests that share a connection are worth keeping together; those that
/// have one each are not. The connections of bytes last, and are not counted as under way: they go to all.
pub(super) fn part(workload: &str, protocol: Protocol) -> Option<Part> {
    let busy = match protocol {
        Protocol::Tcp => return None,
        Protocol::Http2 => 32,
        Protocol::Http1 | Protocol::UseDownstream => 4,
    };
    Some(Part { sidecar: number(workload.as_bytes()), busy })
}

/// The same number for the same bytes in every process.
fn number(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Endpoints as the picker wants them, in the order of their slots.
pub(super) fn members(source: &model::Endpoints) -> Vec<Member> {
    let localities = source.localities.iter().enumerate();
    localities
        .flat_map(|(index, locality)| {
            locality.endpoints.iter().map(move |endpoint| Member {
                key: number(endpoint.address.to_string().as_bytes()),
                priority: locality.priority,
                locality: index as u32,
                locality_weight: locality.weight,
                weight: endpoint.weight,
                takes_requests: endpoint.health == model::Health::Healthy,
            })
        })
        .collect()
}
