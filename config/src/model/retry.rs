//! When a request may be tried again, and how soon.
//!
//! Independent of any policy, what provably was never processed (connect refused, `REFUSED_STREAM`, above GOAWAY's last
//! stream, a pooled connection found closed before a byte was written) is tried again while the budget allows it.

use serde::Serialize;
use std::time::Duration;

/// A gRPC status code by its number, 0 (`OK`) to 16 (`UNAUTHENTICATED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GrpcCode(u8);

impl GrpcCode {
    /// `CANCELLED`
    pub const CANCELLED: Self = Self(1);
    /// `DEADLINE_EXCEEDED`
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// `RESOURCE_EXHAUSTED`
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// `INTERNAL`
    pub const INTERNAL: Self = Self(13);
    /// `UNAVAILABLE`
    pub const UNAVAILABLE: Self = Self(14);

    /// `None` above 16.
    pub fn new(n: u8) -> Option<Self> {
        (n <= 16).then_some(Self(n))
    }

    /// What gRPC makes of an HTTP status that came without a gRPC one (gRPC, "HTTP to gRPC Status Code Mapping").
    pub fn from_http(status: u16) -> Self {
        Self(match status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        })
    }

    /// The HTTP status nearest to it (`google.rpc.Code`).
    pub fn http_status(self) -> u16 {
        match self.0 {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        }
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// The outcomes that are tried again, besides what is always safe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetryOn {
    /// The connection could not be made.
    pub connect_failure: bool,
    /// The stream or connection was reset before response headers came; also the per-try timeout.
    pub reset: bool,
    /// Any 5xx, also the ones made here.
    pub server_error: bool,
    /// 502, 503, 504.
    pub gateway_error: bool,
    /// Exactly these response statuses, sorted.
    pub statuses: Vec<u16>,
    /// These gRPC codes, from the headers of a trailers-only response. Of `CANCELLED`, `DEADLINE_EXCEEDED`, `INTERNAL`,
    /// `RESOURCE_EXHAUSTED`, `UNAVAILABLE` (Envoy's and gRFC A44's set), sorted.
    pub grpc: Vec<GrpcCode>,
}

/// The wait between two tries: full jitter in `0..=min(max, base * 2^n)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Backoff {
    /// The first interval, at least 1 ms.
    pub base: Duration,
    /// The largest, at least `base`.
    pub max: Duration,
}

impl Default for Backoff {
    /// Envoy's: 25 ms, at most ten times that.
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

/// A route's declared retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetryPolicy {
    /// Which outcomes.
    pub on: RetryOn,
    /// How many further tries, 1 to 10.
    pub attempts: u32,
    /// The time one try may take to its response headers.
    pub per_try_timeout: Option<Duration>,
    /// The wait between tries.
    pub backoff: Backoff,
}
