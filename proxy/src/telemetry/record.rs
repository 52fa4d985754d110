//! The one record of a request: what was asked, which rule and which endpoint, each attempt, how it ended. Filled on the
//! way by the stages; read by the access log and by `explain`.
//!
//! Filling it is cheap: shared texts, numbers and times; nothing is formatted before somebody reads it.

use crate::error::Kind;
use http::{Method, Uri};
use serde::Serialize;
use smallvec::SmallVec;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use weir_config::model::SpiffeId;

/// Which side of the workload a request is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the application to others.
    Outbound,
    /// From others to the application.
    Inbound,
}

impl Direction {
    /// Both; each one's place is its number.
    pub const ALL: [Self; 2] = [Self::Outbound, Self::Inbound];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// What was spoken by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

/// One try to get an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whom; `None` if nobody could be chosen.
    pub endpoint: Option<SocketAddr>,
    /// Its name for people.
    pub workload: Arc<str>,
    /// When, after the request's start.
    pub began: Duration,
    /// How long to the response's headers, or to the failure.
    pub took: Duration,
    /// What came of it.
    pub result: AttemptResult,
    /// Whether the connection was there already.
    pub connection_reused: bool,
    /// Ejections were ignored when it was chosen.
    pub panicking: bool,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// Response headers with this status, and this gRPC code if the response ended with them.
    Answered(u16, Option<u8>),
    /// No response.
    Failed(Kind),
}

/// One request, or one connection of bytes, from its start to its end.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// When its headers were complete.
    pub start: SystemTime,
    /// Which side.
    pub direction: Direction,
    /// What the client spoke.
    pub protocol: Protocol,
    /// The method.
    pub method: Method,
    /// As the client said it; the log leaves its query out.
    pub uri: Uri,
    /// `Host` or `:authority`.
    pub authority: Option<Arc<str>>,
    /// `x-request-id`.
    pub request_id: Option<Arc<str>>,
    /// The trace it belongs to, in hexadecimal digits.
    pub trace_id: Option<Arc<str>>,
    /// Our span in it.
    pub span_id: Option<Arc<str>>,
    /// `user-agent`.
    pub user_agent: Option<Arc<str>>,
    /// `x-forwarded-for`.
    pub forwarded_for: Option<Arc<str>>,
    /// The other end of the client's connection.
    pub peer: Option<SocketAddr>,
    /// Who the client is, by its certificate.
    pub source_identity: Option<SpiffeId>,
    /// Who the called side is, by its certificate (outbound), or ourselves (inbound).
    pub destination_identity: Option<SpiffeId>,
    /// The server name that the client asked for.
    pub server_name: Option<Arc<str>>,
    /// The TLS version of the mesh connection: `TLSv1.3`.
    pub tls_version: Option<&'static str>,
    /// Its key exchange.
    pub tls_key_exchange: Option<&'static str>,
    /// The route that was taken.
    pub route: Option<Arc<str>>,
    /// The cluster that was chosen.
    pub cluster: Option<Arc<str>>,
    /// Each try, in order.
    pub attempts: SmallVec<[Attempt; 1]>,
    /// The response's status; `None`: the client got none.
    pub status: Option<u16>,
    /// The gRPC status, from the headers or the trailers.
    pub grpc_status: Option<u8>,
    /// Why it failed, if the proxy made the response or cut it.
    pub reason: Option<Kind>,
    /// More words on the reason: which rule, which limit.
    pub reason_details: Option<Arc<str>>,
    /// A delay on purpose was put on it.
    pub delay_injected: bool,
    /// To the response's headers.
    pub time_to_headers: Option<Duration>,
    /// What the proxy itself took of that.
    pub overhead: Option<Duration>,
    /// To the response's end.
    pub duration: Duration,
    /// Of the request's body.
    pub bytes_received: u64,
    /// Of the response's body.
    pub bytes_sent: u64,
}

impl RequestRecord {
    /// A request that has just arrived, and of which no more is known.
    pub fn new(start: SystemTime, direction: Direction, protocol: Protocol, method: Method, uri: Uri) -> Self {
        Self {
            start,
            direction,
            protocol,
            method,
            uri,
            authority: None,
            request_id: None,
            trace_id: None,
            span_id: None,
            user_agent: None,
            forwarded_for: None,
            peer: None,
            source_identity: None,
            destination_identity: None,
            server_name: None,
            tls_version: None,
            tls_key_exchange: None,
            route: None,
            cluster: None,
            attempts: SmallVec::new(),
            status: None,
            grpc_status: None,
            reason: None,
            reason_details: None,
            delay_injected: false,
            time_to_headers: None,
            overhead: None,
            duration: Duration::ZERO,
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// Whether it is one that the error log wants: a reason, no answer, a 5xx, or a gRPC code that stands for one.
    pub fn is_error(&self) -> bool {
        // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: OpenTelemetry's for servers.
        const CODES: [u8; 6] = [2, 4, 12, 13, 14, 15];
        self.reason.is_some()
            || self.status.is_none_or(|s| s >= 500)
            || self.grpc_status.is_some_and(|code| CODES.contains(&code))
    }
}
