//! Decisions as pure values: no async, no clock and no randomness of their own (`now` and draws are passed in), no I/O.
//!
//! Each value lives as long as the endpoint or cluster it decides about and is shared by all data threads, so what
//! happens per request is a handful of relaxed atomics; locks are taken only where something rare is decided.

pub mod backoff;
pub mod budget;
pub mod ewma;
pub mod grpc_timeout;
pub mod keepalive;
pub mod limits;
pub mod outlier;
pub mod pick;
pub mod weighted;

pub use budget::RetryBudget;
pub use ewma::{PeakEwma, Ticket};
pub use keepalive::KeepAlive;
pub use limits::{ClusterLimits, Limit, Permit};
pub use outlier::{EndpointHealth, Outcome, Outlier};
pub use pick::{Member, Part, Picked, Picker, View};
pub use weighted::Weighted;

/// A uniform number below `n` from a uniform 64-bit draw (Lemire's multiplication; the bias is below `n / 2^64`).
pub fn below(draw: u64, n: u64) -> u64 {
    ((u128::from(draw) * u128::from(n)) >> 64) as u64
}
