//! What one endpoint has answered lately, and whether it is out. Outlives snapshots.

use http::StatusCode;
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};
use weir_config::model::{GrpcCode, OutlierDetection};

/// What an attempt says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, good or the caller's fault.
    Success,
    /// A 5xx other than the gateway ones.
    ServerError,
    /// 502, 503, 504; a connection that failed, a reset, a timeout.
    GatewayFailure,
}

impl Outcome {
    /// By HTTP status.
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            502..=504 => Self::GatewayFailure,
            500..=599 => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// By gRPC code, as Envoy maps them to HTTP, save `UNIMPLEMENTED`: an endpoint that lacks a method is not ill.
    pub fn of_grpc(code: GrpcCode) -> Self {
        match code.number() {
            4 | 14 => Self::GatewayFailure,
            2 | 13 | 15 => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// Whether it counts against the endpoint.
    pub fn is_failure(self) -> bool {
        self != Self::Success
    }
}

/// The breaker state of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointHealth {
    server_errors_in_a_row: AtomicU32,
    gateway_failures_in_a_row: AtomicU32,
    interval_good: AtomicU32,
    interval_bad: AtomicU32,
    ejected: AtomicBool,
    ejection: Mutex<Ejection>,
}

#[derive(Debug, Default)]
struct Ejection {
    until: Option<Instant>,
    /// How many in a row; goes down by one at each sweep that finds the endpoint in.
    times: u32,
}

/// Failures in a row, after counting.
pub(super) struct Counted {
    pub(super) server_errors: u32,
    pub(super) gateway_failures: u32,
}

impl EndpointHealth {
    /// Whether it is out.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    /// Until when it is out at least.
    pub fn ejected_until(&self) -> Option<Instant> {
        self.ejection.lock().until
    }

    /// Forgets everything, as when outlier detection is switched off.
    pub fn clear(&self) {
        *self.ejection.lock() = Ejection::default();
        self.reset_counts();
        self.ejected.store(false, Relaxed);
    }

    pub(super) fn count(&self, outcome: Outcome, shares: bool) -> Counted {
        if shares {
            let counter = if outcome.is_failure() { &self.interval_bad } else { &self.interval_good };
            counter.fetch_add(1, Relaxed);
        }
        if self.is_ejected() {
            return Counted { server_errors: 0, gateway_failures: 0 };
        }
        let server_errors = match outcome {
            Outcome::Success => reset(&self.server_errors_in_a_row),
            Outcome::ServerError | Outcome::GatewayFailure => increment(&self.server_errors_in_a_row),
        };
        let gateway_failures = match outcome {
            Outcome::GatewayFailure => increment(&self.gateway_failures_in_a_row),
            Outcome::Success | Outcome::ServerError => reset(&self.gateway_failures_in_a_row),
        };
        Counted { server_errors, gateway_failures }
    }

    /// How long it is out.
    pub(super) fn eject(&self, config: &OutlierDetection, now: Instant) -> Duration {
        let mut ejection = self.ejection.lock();
        let longest = config.max_ejection_time.max(config.base_ejection_time);
        let next = ejection.times.saturating_add(1);
        let length = config.base_ejection_time.checked_mul(next).unwrap_or(longest).min(longest);
        // No longer than needed to reach the longest, so that it is as soon forgotten.
        if config.base_ejection_time.saturating_mul(ejection.times) < longest {
            ejection.times = next;
        }
        ejection.until = now.checked_add(length);
        self.ejected.store(true, Relaxed);
        length
    }

    /// Whether it came back just now.
    pub(super) fn try_return(&self, now: Instant) -> bool {
        if !self.is_ejected() {
            let mut ejection = self.ejection.lock();
            ejection.times = ejection.times.saturating_sub(1);
            return false;
        }
        let mut ejection = self.ejection.lock();
        if ejection.until.is_some_and(|until| now < until) {
            return false;
        }
        ejection.until = None;
        self.reset_counts();
        self.ejected.store(false, Relaxed);
        true
    }

    /// Good and bad answers since the last call.
    pub(super) fn take_interval(&self) -> (u32, u32) {
        (self.interval_good.swap(0, Relaxed), self.interval_bad.swap(0, Relaxed))
    }

    pub(super) fn reset_counts(&self) {
        self.server_errors_in_a_row.store(0, Relaxed);
        self.gateway_failures_in_a_row.store(0, Relaxed);
    }
}

fn increment(counter: &AtomicU32) -> u32 {
    counter.fetch_add(1, Relaxed).saturating_add(1)
}

/// A store only when there is something to reset: the usual success writes nothing.
fn reset(counter: &AtomicU32) -> u32 {
    if counter.load(Relaxed) != 0 {
        counter.store(0, Relaxed);
    }
    0
}
