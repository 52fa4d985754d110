//! A destination that requests are balanced over, and how it is called (Envoy `Cluster`).

use super::{Endpoints, Fraction, SpiffeId};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// The name of the routes and of the cluster for connections that are carried to where they were meant to go. (Istio's.)
pub const PASSTHROUGH: &str = "PassthroughCluster";

/// The name of the cluster for connections to ports of the application that no service leads to. (Istio's.)
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// The name of the routes for connections that are carried nowhere. (Istio's.)
pub const BLACK_HOLE: &str = "BlackHoleCluster";

/// A destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The resource name, `<service>.<namespace>.svc.<cluster-domain>:<port>` for a service, `inbound:<port>` for the
    /// application beside an inbound listener.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// How an endpoint is chosen.
    pub load_balancing: LoadBalancing,
    /// What is spoken to its endpoints.
    pub protocol: Protocol,
    /// Mutual TLS to the endpoints; `None`: plain text.
    pub tls: Option<UpstreamTls>,
    /// Circuit breaking by limits.
    pub limits: ConnectionLimits,
    /// Circuit breaking by what endpoints answer.
    pub outlier: Option<OutlierDetection>,
    /// How many retries all requests to this cluster may cause together.
    pub retry_budget: RetryBudget,
    /// Below this share of endpoints that are not ejected, ejection is ignored (Envoy's panic mode). 0: never.
    pub panic_threshold_percent: u8,
    /// An idle pooled connection is closed after this.
    pub idle_timeout: Option<Duration>,
    /// A connection takes no new request after about this age.
    pub max_connection_age: Option<Duration>,
}

/// Where endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// The `ClusterLoadAssignment` of this name, over ADS.
    Eds(Arc<str>),
    /// Written in the cluster.
    Static(Endpoints),
    /// One: the host of this name, asked for at the machine's resolver whenever a connection is made (Envoy's
    /// `LOGICAL_DNS`).
    Dns {
        /// Its name.
        host: Arc<str>,
        /// Its port.
        port: u16,
    },
    /// None: a connection goes where it was meant to go before it was captured.
    OriginalDestination,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// The better of two random endpoints by peak exponentially weighted moving average of latency times outstanding
    /// requests (Finagle's `p2c_peak_ewma`). Default.
    PeakEwma {
        /// The window of the average.
        decay: Duration,
        /// What an endpoint is taken for before its first answer.
        default_rtt: Duration,
    },
    /// The least loaded of `choices` (2 to 10) random endpoints.
    LeastRequest {
        /// How many are looked at.
        choices: u32,
    },
    /// One after the other, by weight.
    RoundRobin,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self::PeakEwma { decay: Duration::from_secs(10), default_rtt: Duration::from_millis(30) }
    }
}

/// What is spoken to the endpoints of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 (prior knowledge in plain text, ALPN `h2` over TLS).
    Http2,
    /// What the client speaks.
    UseDownstream,
    /// Bytes.
    Tcp,
}

/// Mutual TLS towards the endpoints, with the sidecar's own certificate and the mesh's trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamTls {
    /// The server name, by which the other sidecar chooses the port: `<port>.<service>.<namespace>.svc.<cluster-domain>`.
    pub sni: Arc<str>,
    /// Whom we accept at the other end: one of these, at least one.
    pub identities: Vec<SpiffeId>,
}

/// Circuit breaking by limits: above them requests are refused (`overflow`), not queued. `None`: no limit of that kind
/// beyond the process's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionLimits {
    /// Connections to the cluster.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
}

/// Circuit breaking by outcome: an endpoint that fails is taken out for a while (gRFC A50, Envoy outlier detection).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlierDetection {
    /// This many 5xx (or connection failures) in a row eject at once; `None`: not by 5xx.
    pub consecutive_5xx: Option<u32>,
    /// This many 502, 503, 504 (or connection failures) in a row eject at once; `None`: not by these.
    pub consecutive_gateway_failure: Option<u32>,
    /// How often failure shares are looked at, and ejections ended.
    pub interval: Duration,
    /// The first ejection's length; the n-th in a row is n times as long.
    pub base_ejection_time: Duration,
    /// The longest ejection.
    pub max_ejection_time: Duration,
    /// The largest share of the endpoints (0 to 100) that may be out at once; one always may.
    pub max_ejection_percent: u8,
    /// Ejection by share of failures.
    pub failure_percentage: Option<FailurePercentage>,
}

/// Ejection by share of failures within an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FailurePercentage {
    /// Failed requests out of a hundred (1 to 100) that eject.
    pub threshold: u8,
    /// Only when at least this many endpoints had enough requests.
    pub minimum_hosts: u32,
    /// How many requests are enough.
    pub request_volume: u32,
}

/// A limit on retries in proportion to requests (GEP-3388): over `interval`, retries may make up `share` of the requests,
/// and `min_retries_per_second` are always allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RetryBudget {
    /// The share.
    pub share: Fraction,
    /// The window, 1 s to 1 h.
    pub interval: Duration,
    /// Allowed whatever the share.
    pub min_retries_per_second: u32,
}

impl Default for RetryBudget {
    /// 20 % over 10 s, at least 3 a second.
    fn default() -> Self {
        Self {
            share: Fraction::from_millionths(200_000).unwrap_or(Fraction::ALL),
            interval: Duration::from_secs(10),
            min_retries_per_second: 3,
        }
    }
}
