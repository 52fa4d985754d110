//! Faults on purpose: a delay, an abort, and the share of requests they are done to.

use serde::Serialize;
use std::time::Duration;

/// A share of requests, in parts per million (0 to 1,000,000), as Envoy's `FractionalPercent` has it at its finest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fraction(u32);

impl Fraction {
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// From parts per million; `None` above a million.
    pub fn from_millionths(n: u32) -> Option<Self> {
        (n <= 1_000_000).then_some(Self(n))
    }

    /// From percent (0.0 to 100.0), rounded to a millionth.
    pub fn from_percent(p: f64) -> Option<Self> {
        (0.0..=100.0).contains(&p).then(|| Self((p * 10_000.0).round() as u32))
    }

    /// Parts per million.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Whether a draw in `0..1_000_000` falls inside the share.
    pub fn takes(self, draw: u32) -> bool {
        draw < self.0
    }
}

/// What a request is made to suffer: first the delay, then the abort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Hold the request back.
    pub delay: Option<Delay>,
    /// Answer it ourselves.
    pub abort: Option<Abort>,
}

/// A fixed delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Delay {
    /// How long.
    pub fixed: Duration,
    /// For which share of requests.
    pub share: Fraction,
}

/// An answer that the proxy gives in place of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Abort {
    /// HTTP status 200 to 599; a gRPC request gets the code that gRPC maps it to.
    pub status: u16,
    /// A gRPC status (0 to 16) in place of the HTTP one, for gRPC requests.
    pub grpc_status: Option<u8>,
    /// For which share of requests.
    pub share: Fraction,
}
