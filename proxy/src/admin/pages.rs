//! The admin pages, and the page that Prometheus scrapes.

use super::{
    Logging, Readiness,
    server::{Ask, Page, Pages},
};
use crate::{
    identity::Identity,
    telemetry::{Metrics, exposition::CONTENT_TYPE},
    xds::Status,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// What can be asked of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Tell the callers, finish what is under way, then end.
    Drain,
    /// The application has ended: the same, but nobody has calls to make any more.
    Finish,
    /// Another process has the listening sockets: finish what is under way, however long it takes, then end.
    HandedOver,
    /// End now.
    Quit,
}

/// The pages of the admin port.
pub struct Admin {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// How it stands with the control plane.
    pub status: Arc<Status>,
    /// What is missing.
    pub readiness: Arc<Readiness>,
    /// The log.
    pub logging: Logging,
    /// Tells of destinations and their endpoints as they are now.
    pub clusters: Box<dyn Fn() -> Value + Send + Sync>,
    /// Whether `/quitquitquit` is answered.
    pub allow_quit: bool,
    /// Where commands go.
    pub commands: mpsc::Sender<Command>,
}

const KNOWN: &str = "/config_dump /clusters /certs /status, and with POST: /logging?level=… /drain /quitquitquit";
const NO_QUIT: &str = "not allowed here: start the sidecar with --allow-quit (WEIR_ALLOW_QUIT, allowQuit)";

impl Pages for Admin {
    fn answer(&self, ask: Ask<'_>) -> Page {
        // A page in a browser on this machine must not reach us by a name that it made point here.
        if !ask.host.is_none_or(is_local) || ask.origin.is_some() {
            return Page::text(StatusCode::FORBIDDEN, "only for this machine, by the name localhost or its address");
        }
        match (ask.method, ask.path) {
            (&Method::GET, "/config_dump") => Page::json(&*self.status.published()),
            (&Method::GET, "/clusters") => Page::json(&(self.clusters)()),
            (&Method::GET, "/certs") => Page::json(&self.certs()),
            (&Method::GET, "/status") => Page::json(&self.status()),
            (&Method::GET, "/logging") => Page::text(StatusCode::OK, self.logging.directives()),
            (&Method::POST, "/logging") => self.set_level(ask),
            (&Method::POST, "/drain") => self.command(Command::Drain, "draining"),
            (&Method::POST, "/quitquitquit") if !self.allow_quit => Page::text(StatusCode::FORBIDDEN, NO_QUIT),
            (&Method::POST, "/quitquitquit") => {
                self.command(Command::Finish, "ending when what is under way is finished")
            }
            (_, "/drain" | "/quitquitquit") => Page::text(StatusCode::METHOD_NOT_ALLOWED, "use POST"),
            _ => Page::not_found(KNOWN),
        }
    }
}

impl Admin {
    fn set_level(&self, ask: Ask<'_>) -> Page {
        let Some(level) = ask.parameter("level") else {
            return Page::text(StatusCode::BAD_REQUEST, "say which: /logging?level=debug");
        };
        // Directives have commas, colons and equals signs, which a query may carry as they are, or escaped.
        let level = level.replace("%2C", ",").replace("%3D", "=").replace("%3A", ":");
        match self.logging.set(&level) {
            Ok(()) => Page::text(StatusCode::OK, self.logging.directives()),
            Err(error) => Page::text(StatusCode::BAD_REQUEST, error),
        }
    }

    fn command(&self, command: Command, word: &str) -> Page {
        match self.commands.try_send(command) {
            Ok(()) => Page::text(StatusCode::OK, word),
            Err(_) => Page::text(StatusCode::SERVICE_UNAVAILABLE, "it is already going down"),
        }
    }

    fn certs(&self) -> Value {
        let now = SystemTime::now();
        let current = self.identity.current().map(|current| {
            let leaf = current.leaf();
            json!({
                "identity": leaf.id,
                "serial": leaf.serial,
                "valid": current.is_valid(now),
                "notBefore": seconds(leaf.not_before),
                "notAfter": seconds(leaf.not_after),
                "secondsLeft": leaf.not_after.duration_since(now).unwrap_or_default().as_secs(),
            })
        });
        let bundle = self.identity.bundle().map(|bundle| {
            let roots: Vec<_> = bundle.roots().iter().map(|der| blake3::hash(der).to_hex().to_string()).collect();
            json!({"trustDomain": bundle.domain(), "roots": roots})
        });
        json!({"certificate": current, "bundle": bundle, "lastFailure": self.identity.last_failure()})
    }

    fn status(&self) -> Value {
        let status = &self.status;
        json!({
            "ready": self.readiness.missing().is_empty(),
            "missing": self.readiness.missing(),
            "controlPlane": {
                "connected": status.is_connected(),
                "connections": status.connections(),
                "lastError": status.last_error(),
            },
            "configuration": {
                "applied": status.applied(),
                "lastApplied": status.last_applied().map(seconds),
                "authorities": status.authorities(),
                "accepted": status.accepted(),
                "refused": status.refused(),
                "refusals": status.refusals(),
            },
        })
    }
}

/// The page of the metrics port.
pub struct Scrape(pub Arc<Metrics>);

impl Pages for Scrape {
    fn answer(&self, ask: Ask<'_>) -> Page {
        match ask.path {
            "/metrics" => {
                Page { status: StatusCode::OK, content_type: CONTENT_TYPE, body: self.0.tell(Instant::now()) }
            }
            _ => Page::not_found("/metrics"),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((name, _)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_by_its_own_names() {
        for good in ["localhost", "localhost:15000", "127.0.0.1:15000", "[::1]:15000", "LOCALHOST"] {
            assert!(is_local(good), "{good}");
        }
        for bad in ["evil.example", "evil.example:15000", "10.0.0.1", "", "localhost.evil.example", "[fe80::1]"] {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
