//! The map of the streaming platform: which services there are, what they speak, how many of each.

use serde::Serialize;

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
}

/// One service of the platform.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Service {
    /// The name that callers use.
    pub name: &'static str,
    /// The port that callers use; instances listen wherever they were told to.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// How many instances the demo starts.
    pub replicas: usize,
    /// For people.
    pub what: &'static str,
}

impl Service {
    /// `catalog:9080`, what callers say.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.name, self.port)
    }

    /// `catalog-1` and so on.
    pub fn instances(&self) -> impl Iterator<Item = String> + use<> {
        let name = self.name;
        (1..=self.replicas).map(move |i| format!("{name}-{i}"))
    }
}

/// All services, the ones nearest to the viewers first.
pub const SERVICES: [Service; 8] = [
    Service { name: "web", port: 8080, protocol: Protocol::Http, replicas: 2, what: "home page and player" },
    Service { name: "profiles", port: 9090, protocol: Protocol::Grpc, replicas: 2, what: "who is watching" },
    Service { name: "catalog", port: 9080, protocol: Protocol::Http, replicas: 2, what: "titles and what is popular" },
    Service {
        name: "recommendations",
        port: 9090,
        protocol: Protocol::Grpc,
        replicas: 3,
        what: "titles for one viewer",
    },
    Service { name: "playback", port: 9080, protocol: Protocol::Http, replicas: 2, what: "the manifest of a title" },
    Service { name: "video", port: 9080, protocol: Protocol::Http, replicas: 3, what: "segments, by byte ranges" },
    Service { name: "analytics", port: 9080, protocol: Protocol::Http, replicas: 1, what: "heartbeats of players" },
    Service { name: "billing", port: 9080, protocol: Protocol::Http, replicas: 1, what: "charges, never twice" },
];

/// The service of a name.
pub fn service(name: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|s| s.name == name)
}

/// The service that an instance name such as `video-2` belongs to.
pub fn service_of(instance: &str) -> Option<&'static Service> {
    instance.rsplit_once('-').and_then(|(name, _)| service(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_know_their_service() {
        for s in &SERVICES {
            for i in s.instances() {
                assert_eq!(service_of(&i).map(|s| s.name), Some(s.name));
            }
        }
        assert!(service_of("nobody-1").is_none());
    }
}
