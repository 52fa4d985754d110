//! `weir.dev/v1alpha1 Workload`: one instance of an application outside Kubernetes.

use super::{AppProtocol, TargetPort};
use crate::model::Health;
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// A Workload's `spec`. Its labels are those of its metadata, its identity is its namespace and service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Where other machines reach it (its sidecar, if it has one). Without one written: 127.0.0.1, for a workload that
    /// has a `command`.
    pub address: IpAddr,
    /// Where its sidecar reaches the application; 127.0.0.1 unless written.
    pub app_address: IpAddr,
    /// The application's ports; numbers and names occur once.
    pub ports: Vec<WorkloadPort>,
    /// Its service account; `default` unless written.
    pub service_account: String,
    /// Where it runs; may be empty.
    pub region: String,
    /// Where in the region; may be empty.
    pub zone: String,
    /// The machine it runs on; may be empty.
    pub node: Arc<str>,
    /// For whom it is meant, by service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<Hint>,
    /// Its share of its services' requests, at least 1.
    pub weight: u32,
    /// Its sidecar; `None`: it has none, and is called in plain text.
    pub sidecar: Option<Sidecar>,
    /// How `weir up` starts the application; empty: it is started elsewhere.
    pub command: Vec<String>,
    /// Environment of the command.
    pub env: BTreeMap<String, String>,
    /// Whether it gets requests.
    pub health: Health,
}

/// For whose requests to a service an instance is meant (the hints of EndpointSlices).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hint {
    /// The service, of the same namespace.
    pub service: String,
    /// Callers of these zones.
    pub zones: Vec<String>,
    /// Callers on these machines.
    pub nodes: Vec<String>,
}

/// A port of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// The name that a Service's `targetPort` may use.
    pub name: String,
    /// The number.
    pub port: u16,
    /// What is spoken, where it differs from what the Service says.
    #[serde(rename = "appProtocol")]
    pub protocol: Option<AppProtocol>,
}

/// The ports of a sidecar. 0 is any free port; `inbound_port`, which callers must know, is never 0: where a document with
/// a `command` writes 0 or nothing, `weir up` chooses a port and writes it into the document, and until then it is 15006.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Mutual TLS for the application, on `address`.
    pub inbound_port: u16,
    /// The application's way out, on loopback.
    pub outbound_port: u16,
    /// Admin, on loopback.
    pub admin_port: u16,
    /// `/metrics`.
    pub metrics_port: u16,
    /// `/readyz`, `/livez`.
    pub health_port: u16,
}

impl Default for Sidecar {
    fn default() -> Self {
        Self { inbound_port: 15006, outbound_port: 15080, admin_port: 15000, metrics_port: 15020, health_port: 15021 }
    }
}

impl Workload {
    /// The number of the application port that a Service's target port means here; `None`: this workload has no port of
    /// that name. A number need not be listed in `ports`.
    pub fn target(&self, target: &TargetPort) -> Option<u16> {
        match target {
            TargetPort::Number(n) => Some(*n),
            TargetPort::Name(name) => self.ports.iter().find(|p| p.name == *name).map(|p| p.port),
        }
    }

    /// For whose requests to a service it is meant; `None`: nobody has said it.
    pub fn hint(&self, service: &str) -> Option<&Hint> {
        self.hints.iter().find(|hint| hint.service == service)
    }

    /// What the workload itself says is spoken on a port.
    pub fn protocol(&self, port: u16) -> Option<AppProtocol> {
        self.ports.iter().find(|p| p.port == port).and_then(|p| p.protocol)
    }
}
