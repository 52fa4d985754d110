//! Which policy holds: what is said of a route goes before what is said of its service, that before the mesh's defaults,
//! each part by itself (GEP-713: the more specific wins).

use crate::index::World;
use std::time::Duration;
use weir_config::{
    model::{ConnectionLimits, Fault, LoadBalancing, OutlierDetection, RetryBudget, RetryPolicy},
    resources::{Key, Settings, Switch},
};

/// How long something may be still before it is taken for abandoned.
pub(super) const LONG_IDLE: Duration = Duration::from_secs(3600);

/// How long a connection to the world outside may take to be made: as long as systems themselves try.
pub(super) const LONG_CONNECT: Duration = Duration::from_secs(120);
/// Bytes that have been still for so long are taken for abandoned. Whether both ends are still there is for keep-alive
/// probes to tell.
pub(super) const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A policy in force: every part is decided.
#[derive(Debug, Clone)]
pub(super) struct Effective {
    pub(super) load_balancing: LoadBalancing,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) retry_budget: RetryBudget,
    pub(super) request_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) limits: ConnectionLimits,
    pub(super) outlier: Option<OutlierDetection>,
    pub(super) panic_threshold_percent: u8,
    pub(super) pool_idle_timeout: Option<Duration>,
    pub(super) max_connection_age: Option<Duration>,
    pub(super) fault: Option<Fault>,
}

/// What holds for targets given from the most to the least specific.
pub(super) fn effective(world: &World, targets: &[&Key]) -> Effective {
    let said = targets.iter().filter_map(|target| world.settings(target));
    let own = said.fold(Settings::default(), |specific, general| specific.over(general));
    decide(own.over(&world.mesh().defaults).over(&Settings::built_in()))
}

/// How long bytes (no HTTP) may be still: what is said of the service itself, or else a day. What a mesh's defaults say
/// is meant for HTTP's streams, and would cut the idle connections of database pools.
pub(super) fn bytes_idle(world: &World, service: &Key) -> Option<Duration> {
    match world.settings(service).and_then(|said| said.idle_timeout) {
        Some(said) => said.on(),
        None => Some(ABANDONED),
    }
}

/// What holds where no policy of an operator is meant to: the application beside its own sidecar.
pub(super) fn built_in() -> Effective {
    decide(Settings::built_in())
}

fn decide(s: Settings) -> Effective {
    Effective {
        load_balancing: s.load_balancing.unwrap_or_default(),
        retry: s.retry.and_then(Switch::on),
        retry_budget: s.retry_budget.unwrap_or_default(),
        request_timeout: s.request_timeout.and_then(Switch::on),
        idle_timeout: s.idle_timeout.and_then(Switch::on),
        connect_timeout: s.connect_timeout.unwrap_or(Duration::from_secs(1)),
        limits: s.limits,
        outlier: s.outlier.and_then(Switch::on),
        panic_threshold_percent: s.panic_threshold_percent.unwrap_or(0),
        pool_idle_timeout: s.pool_idle_timeout.and_then(Switch::on),
        max_connection_age: s.max_connection_age.and_then(Switch::on),
        fault: s.fault,
    }
}
