//! Placeholder while the rooms are built.

pub mod error;
pub mod logic;
pub mod telemetry;
