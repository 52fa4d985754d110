//! Ready: configured, certified, listening, and not going down. Alive: this answers.

use super::server::{Ask, Page, Pages};
use crate::{drain, identity::Identity, xds::Status};
use http::StatusCode;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

/// What being ready depends on. Listening comes first: who can ask has started.
#[derive(Debug)]
pub struct Readiness {
    /// Certified?
    pub identity: Arc<Identity>,
    /// Configured?
    pub status: Arc<Status>,
    /// Going down?
    pub drain: drain::Signal,
    /// Capturing? Where traffic is captured, this is proven once.
    pub captures: Arc<AtomicBool>,
}

impl Readiness {
    /// What is missing, in words.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = [
            (self.identity.is_ready(SystemTime::now()), "no valid certificate"),
            (*self.status.configured().borrow(), "no configuration yet"),
            (self.captures.load(Ordering::Relaxed), "traffic is not captured: weir-init has not run here"),
            (!self.drain.is_draining(), "draining"),
        ];
        parts.into_iter().filter(|(met, _)| !met).map(|(_, what)| what).collect()
    }
}

/// `/readyz` and `/livez`.
#[derive(Debug)]
pub struct Health(pub Arc<Readiness>);

impl Pages for Health {
    fn answer(&self, ask: Ask<'_>) -> Page {
        match ask.path {
            "/livez" => Page::text(StatusCode::OK, "alive"),
            "/readyz" => match self.0.missing() {
                missing if missing.is_empty() => Page::text(StatusCode::OK, "ready"),
                missing => {
                    Page::text(StatusCode::SERVICE_UNAVAILABLE, format_args!("not ready: {}", missing.join(", ")))
                }
            },
            _ => Page::not_found("/readyz /livez"),
        }
    }
}
