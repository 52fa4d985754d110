//! The configuration from the control plane: subscribed to on demand, over delta ADS, passed on when complete.
//!
//! ```text
//! state::Demand ──authority──> client ──> machine ──complete configuration──> Sink (state, identity)
//!                                │  ^                 └──> cache (0600)
//!                                v  │
//!                         ADS stream (mutual TLS)
//! ```

pub mod cache;
pub mod client;
pub mod machine;
mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use client::{Client, Sink, Stay};
pub use status::{Published, Refusal, Status};
