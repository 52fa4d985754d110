//! What people, Prometheus and orchestrators ask this process: three small HTTP servers, away from the data threads'
//! work.
//!
//! | port | who may | what |
//! |---|---|---|
//! | 15000 | this machine | `/config_dump /clusters /certs /status`, and with POST: `/logging?level= /drain`, and `/quitquitquit` if allowed |
//! | 15020 | anybody | `/metrics` |
//! | 15021 | anybody | `/readyz /livez` |

pub mod health;
pub mod logging;
mod pages;
pub mod server;
mod wait;

pub use health::{Condition, Health, Readiness};
pub use logging::Logging;
pub use pages::{Admin, Command, Scrape};
pub use wait::wait;
