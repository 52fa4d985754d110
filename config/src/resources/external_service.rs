//! `weir.dev/v1alpha1 ExternalService`: a destination outside the mesh, by the names of its hosts.

use super::AppProtocol;
use serde::Serialize;
use std::net::IpAddr;

/// An ExternalService's `spec`. It is known in all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalService {
    /// Its hosts, at least one.
    pub hosts: Vec<ExternalHost>,
    /// Its ports, at least one; numbers occur once.
    pub ports: Vec<ExternalPort>,
    /// Where all of its hosts are. Empty: sidecars ask their machine's resolver for each host.
    pub addresses: Vec<IpAddr>,
}

/// A host, or all below a domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ExternalHost {
    /// `api.example.com`
    Exact(String),
    /// `*.example.com`: every name that ends so, however many labels it has before; not `example.com` itself.
    Below(String),
}

/// A port of its hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPort {
    /// The number, for callers and at the hosts.
    pub port: u16,
    /// What is spoken.
    pub protocol: ExternalProtocol,
}

/// What is spoken on a port of an external host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExternalProtocol {
    /// HTTP/1.1; the host is known by the request's `Host`.
    Http,
    /// HTTP/2 without TLS, gRPC among it: the host is known by its address, since the name comes compressed.
    Http2,
    /// TLS from the application to the host; the host is known by its server name.
    Tls,
    /// Bytes, which carry no name: the host is known by its address.
    Tcp,
}

impl ExternalProtocol {
    /// Whether the first bytes of what is spoken say which host is meant.
    pub fn carries_a_name(self) -> bool {
        matches!(self, Self::Http | Self::Tls)
    }

    /// As a Service would say it.
    pub fn app(self) -> AppProtocol {
        match self {
            Self::Http => AppProtocol::Http,
            Self::Http2 => AppProtocol::H2c,
            Self::Tls | Self::Tcp => AppProtocol::Tcp,
        }
    }
}

impl ExternalService {
    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&ExternalPort> {
        self.ports.iter().find(|p| p.port == number)
    }

    /// Whether a host of it can only be known by its address.
    pub fn has_nameless_ports(&self) -> bool {
        self.ports.iter().any(|p| !p.protocol.carries_a_name())
    }
}
