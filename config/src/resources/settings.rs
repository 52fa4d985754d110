//! What a policy may say about how a target is called; each part may be left unsaid, and is then inherited.

use crate::model::{ConnectionLimits, Fault, LoadBalancing, OutlierDetection, RetryBudget, RetryPolicy};
use serde::Serialize;
use std::time::Duration;

/// Something that may be switched off expressly, which is another thing than leaving it unsaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Switch<T> {
    /// Expressly none.
    Off,
    /// This.
    On(T),
}

impl<T> Switch<T> {
    /// What is on.
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }

    /// What is on, by reference.
    pub fn as_on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

/// The parts of a policy; `None` is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// `loadBalancing`
    pub load_balancing: Option<LoadBalancing>,
    /// `retry`; `attempts: 0` is off (what provably was not processed is still tried again).
    pub retry: Option<Switch<RetryPolicy>>,
    /// `retryBudget`
    pub retry_budget: Option<RetryBudget>,
    /// `timeouts.request`; `0s` is off.
    pub request_timeout: Option<Switch<Duration>>,
    /// `timeouts.idle`: no byte in either direction for so long; `0s` is off.
    pub idle_timeout: Option<Switch<Duration>>,
    /// `timeouts.connect`
    pub connect_timeout: Option<Duration>,
    /// `circuitBreaker.limits`; a limit unsaid is inherited.
    pub limits: ConnectionLimits,
    /// `circuitBreaker.outlierDetection`; off when no way of ejection is left in it.
    pub outlier: Option<Switch<OutlierDetection>>,
    /// `circuitBreaker.panicThresholdPercent`; 0 is off.
    pub panic_threshold_percent: Option<u8>,
    /// `connectionPool.idleTimeout`; `0s` is off.
    pub pool_idle_timeout: Option<Switch<Duration>>,
    /// `connectionPool.maxConnectionAge`; `0s` is off.
    pub max_connection_age: Option<Switch<Duration>>,
    /// `fault`
    pub fault: Option<Fault>,
}

impl Settings {
    /// What holds when these are said over `base`: each part from here, or else from there.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let (s, b) = (self.clone(), base.clone());
        Self {
            load_balancing: s.load_balancing.or(b.load_balancing),
            retry: s.retry.or(b.retry),
            retry_budget: s.retry_budget.or(b.retry_budget),
            request_timeout: s.request_timeout.or(b.request_timeout),
            idle_timeout: s.idle_timeout.or(b.idle_timeout),
            connect_timeout: s.connect_timeout.or(b.connect_timeout),
            limits: ConnectionLimits {
                max_connections: s.limits.max_connections.or(b.limits.max_connections),
                max_pending_requests: s.limits.max_pending_requests.or(b.limits.max_pending_requests),
                max_requests: s.limits.max_requests.or(b.limits.max_requests),
                max_retries: s.limits.max_retries.or(b.limits.max_retries),
            },
            outlier: s.outlier.or(b.outlier),
            panic_threshold_percent: s.panic_threshold_percent.or(b.panic_threshold_percent),
            pool_idle_timeout: s.pool_idle_timeout.or(b.pool_idle_timeout),
            max_connection_age: s.max_connection_age.or(b.max_connection_age),
            fault: s.fault.or(b.fault),
        }
    }

    /// What holds where nobody says anything: connect within 1 s, streams silent for at most a day, no limit on a
    /// whole request, only retries that are safe, an endpoint out after five 5xx in a row (at most half of them at a
    /// time), pooled connections closed after 90 s without use, and renewed after about ten minutes.
    pub fn built_in() -> Self {
        Self {
            load_balancing: Some(LoadBalancing::default()),
            retry: Some(Switch::Off),
            retry_budget: Some(RetryBudget::default()),
            request_timeout: Some(Switch::Off),
            idle_timeout: Some(Switch::On(Duration::from_secs(24 * 3600))),
            connect_timeout: Some(Duration::from_secs(1)),
            limits: ConnectionLimits::default(),
            outlier: Some(Switch::On(default_outlier())),
            panic_threshold_percent: Some(0),
            pool_idle_timeout: Some(Switch::On(Duration::from_secs(90))),
            max_connection_age: Some(Switch::On(Duration::from_secs(600))),
            fault: None,
        }
    }
}

/// What an `outlierDetection: {}` means.
pub(super) fn default_outlier() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(5),
        consecutive_gateway_failure: None,
        // Shorter than Envoy's 10 s and 30 s: a replica that restarts is back within seconds.
        interval: Duration::from_secs(5),
        base_ejection_time: Duration::from_secs(10),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 50,
        failure_percentage: None,
    }
}
