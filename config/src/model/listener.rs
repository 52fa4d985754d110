//! Where requests enter: by name on the outbound side, by server name and port on the inbound side.

use super::{Authz, RouteConfig};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// A listener resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Listener {
    /// What an application calls by name (Envoy `api_listener`, as proxyless gRPC uses it): no socket of its own.
    Api(ApiListener),
    /// What arrives for the application.
    Inbound(InboundListener),
}

impl Listener {
    /// The resource name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Api(l) => &l.name,
            Self::Inbound(l) => &l.name,
        }
    }
}

/// The meaning of one authority that an application may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiListener {
    /// The authority as the application says it, lower case, with its port: `recommendations:8080`.
    pub name: Arc<str>,
    /// Its routes.
    pub routes: RouteSource,
    /// How HTTP is served.
    pub http: HttpOptions,
    /// Of an address: a connection whose first bytes name a host (a TLS server name, a `Host`) goes where that name leads,
    /// if it leads anywhere; the routes are for the others.
    pub by_name: bool,
}

/// Where routes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteSource {
    /// The `RouteConfiguration` of this name, over ADS.
    Rds(Arc<str>),
    /// Written in the listener.
    Inline(Arc<RouteConfig>),
}

/// How HTTP is served on a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpOptions {
    /// No byte in either direction on a stream for so long; `None`: no limit.
    pub stream_idle_timeout: Option<Duration>,
    /// From a request's first byte to the end of its headers; `None`: the process's.
    pub request_headers_timeout: Option<Duration>,
    /// A connection that is about so old is told to end when what is under way on it has: HTTP/2 by GOAWAY, HTTP/1 by
    /// `Connection: close`; `None`: never.
    pub max_connection_age: Option<Duration>,
}

impl Default for HttpOptions {
    /// Envoy's: five minutes idle.
    fn default() -> Self {
        Self {
            stream_idle_timeout: Some(Duration::from_secs(300)),
            request_headers_timeout: None,
            max_connection_age: None,
        }
    }
}

/// What a sidecar accepts for its application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboundListener {
    /// The resource name, `inbound/<namespace>/<workload>`.
    pub name: Arc<str>,
    /// The most specific match is taken.
    pub chains: Vec<InboundChain>,
}

/// What is done with the connections of one port of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboundChain {
    /// For logs and metrics: `<service>.<namespace>:<port>`, or `port:<n>`.
    pub name: Arc<str>,
    /// Which connections.
    pub matches: ChainMatch,
    /// Mutual TLS; `None`: plain text.
    pub tls: Option<DownstreamTls>,
    /// Who may.
    pub authz: Authz,
    /// What is spoken, and where it goes.
    pub target: InboundTarget,
}

/// Which connections a chain takes: all that is set must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChainMatch {
    /// TLS server names, one of them; empty: any.
    pub server_names: Vec<String>,
    /// The original destination port, where traffic is captured.
    pub destination_port: Option<u16>,
    /// What is spoken, one of these: the ALPN name over TLS, else what was detected (`http/1.1`, `h2c`); empty: any.
    pub protocols: Vec<String>,
}

/// Mutual TLS towards callers, with the sidecar's own certificate and the mesh's trust bundle. TLS 1.3 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DownstreamTls {
    /// Whether a caller must show a certificate of the mesh.
    pub require_client_certificate: bool,
}

/// Where accepted connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundTarget {
    /// HTTP, routed.
    Http {
        /// Usually one route to `inbound:<port>`.
        routes: Arc<RouteConfig>,
        /// How HTTP is served.
        http: HttpOptions,
    },
    /// Bytes, to this cluster.
    Tcp {
        /// `inbound:<port>`
        cluster: Arc<str>,
        /// No byte in either direction for so long ends it.
        idle_timeout: Option<Duration>,
    },
}
