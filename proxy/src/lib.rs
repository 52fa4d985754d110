//! Placeholder while the rooms are built.

pub mod disk;
pub mod drain;
pub mod error;
pub mod logic;
pub mod telemetry;
pub mod tls;
