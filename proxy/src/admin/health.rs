//! Ready: configured, certified, listening, whatever else was asked for, and not going down. Alive: this answers.

use super::server::{Ask, Page, Pages};
use crate::{
    drain::{self, Door},
    identity::Identity,
    xds::Status,
};
use http::StatusCode;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// What being ready depends on.
#[derive(Debug)]
pub struct Readiness {
    /// Certified?
    pub identity: Arc<Identity>,
    /// Configured?
    pub status: Arc<Status>,
    /// Listening? A process that takes over from another listens last.
    pub door: watch::Receiver<Door>,
    /// Whatever else has to be there, such as capture.
    pub conditions: Vec<Condition>,
    /// Going down?
    pub drain: drain::Signal,
}

/// One more thing that has to be there before the sidecar is ready.
pub struct Condition {
    /// What is said while it is missing, such as `traffic is not captured`.
    pub missing: &'static str,
    /// Whether it is there. Asked often: it must be quick.
    pub is_met: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({})", self.missing)
    }
}

impl Readiness {
    /// What is missing, in words.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = self.unprepared();
        if *self.door.borrow() != Door::Open {
            missing.push("not listening yet");
        }
        missing
    }

    /// The same, but for listening: what is to be there before this process takes over from another.
    pub fn unprepared(&self) -> Vec<&'static str> {
        let parts = [
            (self.identity.is_ready(SystemTime::now()), "no valid certificate"),
            (*self.status.configured().borrow(), "no configuration yet"),
            (!self.drain.is_draining(), "draining"),
        ];
        let mut missing: Vec<_> = parts.into_iter().filter(|(met, _)| !met).map(|(_, what)| what).collect();
        missing.extend(self.conditions.iter().filter(|c| !(c.is_met)()).map(|c| c.missing));
        missing
    }

    /// Returns when nothing is [`Self::unprepared`] any more; after `limit`, says what still is.
    ///
    /// # Errors
    /// What is missing, in words.
    pub async fn prepared(&self, limit: Duration) -> Result<(), Vec<&'static str>> {
        let prepared = async {
            while !self.unprepared().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(limit, prepared).await.map_err(|_| self.unprepared())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test(start_paused = true)]
    async fn every_condition_counts_and_is_named() {
        let (trigger, _watch) = drain::channel();
        let (doors, door) = watch::channel(Door::Shut);
        let captured = Arc::new(AtomicBool::new(false));
        let capture = captured.clone();
        let is_met = Box::new(move || capture.load(Ordering::Relaxed));
        let readiness = Readiness {
            identity: Identity::new(),
            status: Arc::default(),
            door,
            conditions: vec![Condition { missing: "traffic is not captured", is_met }],
            drain: trigger.signal(),
        };
        let all = ["no valid certificate", "no configuration yet", "traffic is not captured", "not listening yet"];
        assert_eq!(readiness.missing(), all);
        assert_eq!(readiness.prepared(Duration::from_secs(1)).await.unwrap_err(), all[..3]);
        doors.send_replace(Door::Open);
        captured.store(true, Ordering::Relaxed);
        assert_eq!(readiness.missing(), all[..2]);
        trigger.begin();
        assert!(readiness.missing().contains(&"draining"));
    }
}
