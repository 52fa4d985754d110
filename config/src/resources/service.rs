//! `v1/Service`: a name with ports that workloads stand behind, or another name of something (`type: ExternalName`).

use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr};

/// A Service's `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Labels that a workload of the same namespace must have to stand behind the service. Empty: none does.
    pub selector: BTreeMap<String, String>,
    /// At least one, unless it is an `ExternalName`; numbers and names occur once.
    pub ports: Vec<ServicePort>,
    /// `clusterIPs`: the addresses under which captured connections mean this service. None: it is headless, or has an
    /// address only in sidecars that answer for its name.
    #[serde(rename = "clusterIPs")]
    pub addresses: Vec<IpAddr>,
    /// `clusterIP: None`: its name means the addresses of its instances.
    pub headless: bool,
    /// `type: ExternalName`: the full name, without a dot at its end, that this is another name of. Nobody stands behind it.
    pub external_name: Option<String>,
    /// Whether callers prefer instances near them.
    #[serde(rename = "trafficDistribution")]
    pub distribution: Option<Distribution>,
}

/// Which instances callers prefer (KEP-3015).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Distribution {
    /// Those of the caller's zone. (`PreferClose` is its older name.)
    #[serde(rename = "PreferSameZone")]
    SameZone,
    /// Those of the caller's node, then those of its zone.
    #[serde(rename = "PreferSameNode")]
    SameNode,
}

/// A port that callers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name; there is one where the service has several ports.
    pub name: Option<String>,
    /// The port callers use.
    pub port: u16,
    /// The port of the application.
    pub target: TargetPort,
    /// What is spoken on it: `appProtocol`, else by the port's name as Istio reads it, else it is detected.
    pub protocol: AppProtocol,
}

/// The port of the application that stands behind a service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// This number.
    Number(u16),
    /// The workload's port of this name.
    Name(String),
}

/// What an application speaks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// HTTP/1.1, or HTTP/2 where the client speaks it.
    Http,
    /// HTTP/2 without TLS (`kubernetes.io/h2c`).
    H2c,
    /// gRPC, that is HTTP/2.
    Grpc,
    /// Bytes.
    Tcp,
    /// Nobody has said it: told by the first bytes of each connection. Requests that come by name are HTTP.
    Detect,
}

impl Service {
    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.port == number)
    }

    /// Whether it is another name of something, and nothing else.
    pub fn is_alias(&self) -> bool {
        self.external_name.is_some()
    }

    /// Whether a workload with these labels (of the service's namespace) stands behind this service.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(k, v)| labels.get(k) == Some(v))
    }
}
