//! Failures on purpose inside an application, so that the same one can be had with and without the mesh: every request
//! first passes the gate, which also counts requests and bounds how many are under way.

use crate::stats::{Timeline, unix_seconds};
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use parking_lot::Mutex;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Requests under way in one instance; more are refused with 503 and counted as `shed`.
const MOST_AT_ONCE: usize = 1024;
/// The longest delay that can be asked for.
const LONGEST_DELAY_MS: u64 = 60_000;

/// What the requests of an instance are made to suffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Every request is held so long first.
    pub delay_ms: u64,
    /// This share of requests (0 to 100) is answered with an error. Every other one of them only after the work has been
    /// done, as when an answer is lost: the case that makes naive retries charge twice.
    pub error_percent: f64,
    /// The error's HTTP status; 503 unless told. gRPC answers `UNAVAILABLE`.
    pub status: Option<u16>,
}

/// Why a fault was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Too long.
    #[error("delay_ms is {0}; at most {LONGEST_DELAY_MS} is allowed")]
    Delay(u64),
    /// No percentage.
    #[error("error_percent is {0}; it must be between 0 and 100")]
    Percent(f64),
    /// No error status.
    #[error("status is {0}; it must be between 400 and 599")]
    Status(u16),
}

impl Fault {
    /// Whether each number means something.
    pub fn check(&self) -> Result<(), FaultError> {
        if self.delay_ms > LONGEST_DELAY_MS {
            return Err(FaultError::Delay(self.delay_ms));
        }
        if !(0.0..=100.0).contains(&self.error_percent) {
            return Err(FaultError::Percent(self.error_percent));
        }
        match self.status {
            Some(s) if !(400..600).contains(&s) => Err(FaultError::Status(s)),
            _ => Ok(()),
        }
    }
}

/// What stands before an application.
#[derive(Debug)]
pub struct Gate {
    fault: Mutex<Fault>,
    slots: Arc<Semaphore>,
    timeline: Arc<Timeline>,
}

impl Gate {
    /// An open one, which records what passes as `served`.
    pub fn new(timeline: Arc<Timeline>) -> Self {
        Self { fault: Mutex::default(), slots: Arc::new(Semaphore::new(MOST_AT_ONCE)), timeline }
    }

    /// The present fault.
    pub fn fault(&self) -> Fault {
        *self.fault.lock()
    }

    /// Sets the fault for requests that come from now on.
    pub fn set(&self, fault: Fault) -> Result<(), FaultError> {
        fault.check()?;
        *self.fault.lock() = fault;
        Ok(())
    }
}

/// The gate as a layer of an application's router.
pub async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (second, start) = (unix_seconds(), Instant::now());
    let grpc = request.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    let Ok(_slot) = gate.slots.clone().try_acquire_owned() else {
        gate.timeline.count(second, "shed", 1);
        return failure(grpc, StatusCode::SERVICE_UNAVAILABLE);
    };
    let response = suffer(gate.fault(), grpc, request, next).await;
    let ok = !response.status().is_server_error() && !response.headers().contains_key("grpc-status");
    gate.timeline.record(second, "served", ok, start.elapsed());
    response
}

async fn suffer(fault: Fault, grpc: bool, request: Request, next: Next) -> Response {
    if fault.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    let (draw, after_the_work) = {
        let mut random = rand::rng();
        (random.random_range(0.0..100.0), random.random::<bool>())
    };
    if draw >= fault.error_percent {
        return next.run(request).await;
    }
    if after_the_work {
        next.run(request).await;
    }
    let status = fault.status.and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    failure(grpc, status)
}

fn failure(grpc: bool, status: StatusCode) -> Response {
    if !grpc {
        return (status, "on purpose\n").into_response();
    }
    // Trailers-only: the status of a gRPC call in the headers of an empty answer.
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("grpc-status", HeaderValue::from_static("14"));
    response.headers_mut().insert("grpc-message", HeaderValue::from_static("on purpose"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_means_nothing_is_refused() {
        let ok = Fault { delay_ms: 5000, error_percent: 100.0, status: Some(503) };
        assert!(ok.check().is_ok());
        assert!(Fault { delay_ms: 60_001, ..ok }.check().is_err());
        assert!(Fault { error_percent: 100.1, ..ok }.check().is_err());
        assert!(Fault { error_percent: f64::NAN, ..ok }.check().is_err());
        assert!(Fault { status: Some(200), ..ok }.check().is_err());
    }
}
