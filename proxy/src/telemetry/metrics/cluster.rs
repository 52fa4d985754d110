//! The handles of a destination: its attempts and breakers, and its connections of bytes.

use super::{Metrics, request::Outcomes};
use crate::{
    error::Kind,
    telemetry::{
        record::Direction,
        registry::{Counter, Family, Gauge},
    },
};
use std::sync::Arc;

/// Attempts and breaker steps of one destination.
#[derive(Debug)]
pub struct ClusterMetrics {
    destination: Arc<str>,
    attempts: Arc<Family<Counter, 3>>,
    outcomes: Outcomes,
    returned: Arc<Counter>,
    /// By cause.
    ejected: [(&'static str, Arc<Counter>); 3],
}

/// The words of [`crate::logic::outlier::Cause`].
const CAUSES: [&str; 3] = ["consecutive_5xx", "consecutive_gateway_failure", "failure_percentage"];

impl ClusterMetrics {
    pub(super) fn new(metrics: &Metrics, destination: &Arc<str>) -> Self {
        let transition =
            |to: &str, cause: &str| metrics.transitions.with([destination.clone(), to.into(), cause.into()]);
        Self {
            destination: destination.clone(),
            attempts: metrics.attempts.clone(),
            outcomes: Outcomes::default(),
            returned: transition("returned", ""),
            ejected: CAUSES.map(|cause| (cause, transition("ejected", cause))),
        }
    }

    /// An attempt has ended: its number from 1, and its status or why it failed.
    pub fn attempt(&self, number: u32, result: Result<u16, Kind>) {
        let number = number.clamp(1, 3);
        let (outcome, index) = match result {
            Ok(500..) => ("server_error", 1),
            Ok(_) => ("success", 0),
            Err(kind) => (kind.reason(), kind.index() as u32 + 2),
        };
        self.outcomes.count(index << 8 | number, || {
            let number = if number == 3 {
                "3+"
            } else if number == 2 {
                "2"
            } else {
                "1"
            };
            self.attempts.with([self.destination.clone(), number.into(), outcome.into()])
        });
    }

    /// An endpoint was ejected; `cause` is [`crate::logic::outlier::Cause::as_str`].
    pub fn ejected(&self, cause: &str) {
        self.ejected.iter().filter(|(name, _)| *name == cause).for_each(|(_, counter)| counter.inc());
    }

    /// An endpoint has returned.
    pub fn returned(&self) {
        self.returned.inc();
    }
}

/// Connections of bytes of one direction and destination.
#[derive(Debug, Clone)]
pub struct TcpMetrics {
    direction: Direction,
    destination: Arc<str>,
    opened: Arc<Counter>,
    closed: Arc<Family<Counter, 3>>,
    open: Arc<Gauge>,
    received: Arc<Counter>,
    sent: Arc<Counter>,
}

impl TcpMetrics {
    pub(super) fn new(metrics: &Metrics, direction: Direction, destination: &Arc<str>) -> Self {
        let labels = || [direction.as_str().into(), destination.clone()];
        Self {
            direction,
            destination: destination.clone(),
            opened: metrics.tcp_opened.with(labels()),
            closed: metrics.tcp_closed.clone(),
            open: metrics.tcp_open.with(labels()),
            received: metrics.tcp_received.with(labels()),
            sent: metrics.tcp_sent.with(labels()),
        }
    }

    /// A connection began.
    pub fn open(&self) -> TcpConnection {
        self.opened.inc();
        self.open.add(1.0);
        TcpConnection { metrics: self.clone(), reason: None }
    }
}

/// A connection of bytes, open until it is dropped.
#[derive(Debug)]
#[must_use = "the connection counts as open until this is dropped"]
pub struct TcpConnection {
    metrics: TcpMetrics,
    reason: Option<Kind>,
}

impl TcpConnection {
    /// Bytes came from the client.
    pub fn received(&self, n: u64) {
        self.metrics.received.add(n);
    }

    /// Bytes went to the client.
    pub fn sent(&self, n: u64) {
        self.metrics.sent.add(n);
    }

    /// It ended, and why if not by itself.
    pub fn close(mut self, reason: Option<Kind>) {
        self.reason = reason;
    }
}

impl Drop for TcpConnection {
    fn drop(&mut self) {
        let m = &self.metrics;
        m.open.add(-1.0);
        let reason = self.reason.map_or("", Kind::reason);
        m.closed.with([m.direction.as_str().into(), m.destination.clone(), reason.into()]).inc();
    }
}
