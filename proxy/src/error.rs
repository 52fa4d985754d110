//! Why a request, an attempt or a connection failed: one closed list of kinds, with everything the outside sees of
//! each kind in one table, and whether it is safe to try again.
//!
//! Whether a retry is safe is decided where it is known (a refused connect was never sent) and travels with the error.

use http::{HeaderValue, StatusCode};
use serde::Serialize;
use std::{borrow::Cow, error::Error as StdError, fmt};
use weir_config::model::GrpcCode;

/// What comes of a thing that can fail in this crate's data path.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. One pointer wide, since results of it are passed through every stage.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    retry: RetrySafety,
    status: Option<StatusCode>,
    grpc: Option<GrpcCode>,
    detail: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure with the retry safety that its kind usually has.
    pub fn new(kind: Kind) -> Self {
        Self(Box::new(Inner { kind, retry: kind.usual_retry(), status: None, grpc: None, detail: None, source: None }))
    }

    /// Names the underlying error.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds words for people: which rule, which limit. Goes to the access log, never to the client.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Says that more (or less) is known about what the other side saw than the kind alone tells.
    pub fn retry_is(mut self, retry: RetrySafety) -> Self {
        self.0.retry = retry;
        self
    }

    /// Answers with another HTTP status than the kind's: a fault on purpose says which.
    pub fn status_is(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Answers a gRPC request with another code than the kind's.
    pub fn grpc_is(mut self, code: GrpcCode) -> Self {
        self.0.grpc = Some(code);
        self
    }

    /// The status of the response that the proxy makes of it.
    pub fn status(&self) -> StatusCode {
        self.0.status.unwrap_or_else(|| self.0.kind.status())
    }

    /// The gRPC status of the response that the proxy makes of it to a gRPC request.
    pub fn grpc_code(&self) -> GrpcCode {
        self.0.grpc.unwrap_or_else(|| match self.0.status {
            Some(status) => GrpcCode::from_http(status.as_u16()),
            None => self.0.kind.grpc_code(),
        })
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether the request may be sent again.
    pub fn retry(&self) -> RetrySafety {
        self.0.retry
    }

    /// The reason token.
    pub fn reason(&self) -> &'static str {
        self.0.kind.reason()
    }

    /// The words for people.
    pub fn details(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The whole story in one line, causes included.
    pub fn story(&self) -> String {
        let mut story = self.to_string();
        let mut cause = self.source();
        while let Some(e) = cause {
            story.push_str(": ");
            story.push_str(&e.to_string());
            cause = e.source();
        }
        story
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match &self.0.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{:?}]", self.story(), self.0.retry)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// How far a failed attempt got, as seen from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrySafety {
    /// Not a byte of it left: always safe.
    NeverSent,
    /// It may have arrived, and the other side said that it did nothing with it (`REFUSED_STREAM`, above GOAWAY's last
    /// stream): always safe.
    Unprocessed,
    /// Nobody knows: only a declared retry policy may try again.
    MayHaveBeenProcessed,
}

impl RetrySafety {
    /// Whether it is safe to send again without any policy that says so.
    pub fn is_always_safe(self) -> bool {
        self != Self::MayHaveBeenProcessed
    }
}

/// What the outside sees of one kind.
struct Row {
    reason: &'static str,
    status: u16,
    grpc: u8,
    flag: &'static str,
    proxy_status: &'static str,
    header: &'static str,
    retry: RetrySafety,
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $reason:literal $status:literal $grpc:literal $flag:literal $ps:literal $retry:ident;)+) => {
        /// The closed list of what can go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])+ $name,)+ }

        impl Kind {
            /// Every kind, in the order of [`Kind::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        reason: $reason, status: $status, grpc: $grpc, flag: $flag, proxy_status: $ps,
                        header: concat!("weir; error=", $ps, "; details=\"", $reason, "\""),
                        retry: RetrySafety::$retry,
                    },)+
                }
            }
        }
    };
}

// Columns: reason token, HTTP status, gRPC code, Envoy response flag, Proxy-Status error type (RFC 9209 §2.3), how far
// an attempt that failed so usually got. Statuses are Envoy's where Envoy has the case. gRPC codes follow gRPC's own
// HTTP-to-gRPC mapping, save where gRPC has the exact word (deadlines, cancellation, sizes, rates).
kinds! {
    /// No endpoint that could take the request.
    NoHealthyEndpoint = "no_healthy_endpoint" 503 14 "UH" "destination_unavailable" NeverSent;
    /// Every endpoint that is there has been ejected for its failures.
    CircuitOpen = "circuit_open" 503 14 "UH" "destination_unavailable" NeverSent;
    /// A connection, pending, request or retry limit of the cluster is reached.
    Overflow = "overflow" 503 14 "UO" "connection_limit_reached" NeverSent;
    /// The connection was refused or unreachable.
    ConnectFailed = "connect_failed" 503 14 "UF" "connection_refused" NeverSent;
    /// The name of a host outside the mesh has no address, or no resolver answers.
    NameUnresolved = "name_unresolved" 503 14 "DF" "dns_error" NeverSent;
    /// The connection, TLS included, was not made in time.
    ConnectTimeout = "connect_timeout" 503 14 "UF" "connection_timeout" NeverSent;
    /// The TLS handshake failed for another reason than trust.
    TlsFailed = "tls_failed" 503 14 "UF" "tls_protocol_error" NeverSent;
    /// The peer's certificate is missing, expired, of another root, or of an identity that is not accepted.
    TlsPeerUntrusted = "tls_peer_untrusted" 503 14 "UF" "tls_certificate_error" NeverSent;
    /// The sidecar itself has no valid certificate.
    IdentityUnavailable = "identity_unavailable" 503 14 "UF" "proxy_configuration_error" NeverSent;
    /// A pooled connection was found closed before a byte of the request was written.
    StaleConnection = "stale_connection" 503 14 "UC" "connection_terminated" NeverSent;
    /// The connection ended before the response did.
    UpstreamClosed = "upstream_closed" 503 14 "UC" "connection_terminated" MayHaveBeenProcessed;
    /// The stream was reset by the other side.
    UpstreamReset = "upstream_reset" 503 14 "UR" "connection_terminated" MayHaveBeenProcessed;
    /// The other side said that it did not look at the request (`REFUSED_STREAM`, GOAWAY).
    UpstreamRefused = "upstream_refused" 503 14 "UR" "connection_terminated" Unprocessed;
    /// The other side broke HTTP.
    UpstreamProtocolError = "upstream_protocol_error" 502 14 "UPE" "http_protocol_error" MayHaveBeenProcessed;
    /// The response's headers are larger, or more, than allowed.
    ResponseHeadersTooLarge = "response_headers_too_large" 502 14 "UPE" "http_response_header_section_size" MayHaveBeenProcessed;
    /// The upgrade did not come about.
    UpgradeFailed = "upgrade_failed" 502 14 "UPE" "http_upgrade_failed" MayHaveBeenProcessed;
    /// Retries are used up in proportion to requests.
    RetryBudgetExhausted = "retry_budget_exhausted" 503 14 "URX" "destination_unavailable" NeverSent;
    /// All tries of the retry policy failed.
    RetryLimitExceeded = "retry_limit_exceeded" 503 14 "URX" "destination_unavailable" MayHaveBeenProcessed;
    /// The caller's deadline passed.
    DeadlineExceeded = "deadline_exceeded" 504 4 "DT" "http_response_timeout" MayHaveBeenProcessed;
    /// The route's timeout passed.
    RequestTimeout = "request_timeout" 504 4 "UT" "http_response_timeout" MayHaveBeenProcessed;
    /// One try took longer than it may.
    PerTryTimeout = "per_try_timeout" 504 4 "UT" "http_response_timeout" MayHaveBeenProcessed;
    /// No byte in either direction for too long.
    IdleTimeout = "idle_timeout" 504 14 "SI" "connection_read_timeout" MayHaveBeenProcessed;
    /// The client took too long to send its request.
    ClientTimeout = "client_timeout" 408 4 "SI" "http_request_error" NeverSent;
    /// The client went away.
    ClientDisconnected = "client_disconnected" 499 1 "DC" "connection_terminated" MayHaveBeenProcessed;
    /// No route matches.
    RouteNotFound = "route_not_found" 404 12 "NR" "destination_not_found" NeverSent;
    /// The route names a cluster that is not there.
    ClusterNotFound = "cluster_not_found" 503 14 "NC" "proxy_configuration_error" NeverSent;
    /// The configuration of this destination has not arrived in time.
    ConfigNotReady = "config_not_ready" 503 14 "NC" "proxy_configuration_error" NeverSent;
    /// Authorisation refuses it.
    PolicyDenied = "policy_denied" 403 7 "UAEX" "http_request_denied" NeverSent;
    /// A rate limit refuses it.
    RateLimited = "rate_limited" 429 8 "RL" "http_request_denied" NeverSent;
    /// A fault on purpose.
    FaultInjected = "fault_injected" 503 14 "FI" "proxy_internal_response" NeverSent;
    /// The process is going away and takes nothing new.
    Draining = "draining" 503 14 "LH" "destination_unavailable" NeverSent;
    /// The process protects itself: memory, connections, or requests under way.
    Overload = "overload" 503 14 "OM" "destination_unavailable" NeverSent;
    /// The limit of requests under way for the application is reached.
    ConcurrencyShed = "concurrency_shed" 503 14 "UO" "connection_limit_reached" NeverSent;
    /// The request is no valid HTTP, or not one that is forwarded.
    BadRequest = "bad_request" 400 13 "DPE" "http_request_error" NeverSent;
    /// The client broke HTTP in the middle of a stream.
    ClientProtocolError = "client_protocol_error" 400 13 "DPE" "http_protocol_error" MayHaveBeenProcessed;
    /// The request's body is larger than allowed.
    BodyTooLarge = "body_too_large" 413 8 "-" "http_request_error" MayHaveBeenProcessed;
    /// The request's headers are larger, or more, than allowed.
    RequestHeadersTooLarge = "request_headers_too_large" 431 8 "DPE" "http_request_error" NeverSent;
    /// The request has been through this proxy before.
    LoopDetected = "loop_detected" 508 13 "-" "proxy_loop_detected" NeverSent;
    /// Bytes (`CONNECT`) towards a destination that takes only HTTP, or the reverse.
    BytesRefused = "bytes_refused" 403 7 "UAEX" "http_request_denied" NeverSent;
    /// A defect of ours.
    Internal = "internal_error" 500 13 "-" "proxy_internal_error" MayHaveBeenProcessed;
}

impl Kind {
    /// A dense number below `Kind::ALL.len()`, for caches.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The reason token: the same word in the `weir-reason` header, `Proxy-Status`, log, metric and span.
    pub fn reason(self) -> &'static str {
        self.row().reason
    }

    /// The `weir-reason` header's value.
    pub fn reason_header(self) -> HeaderValue {
        HeaderValue::from_static(self.row().reason)
    }

    /// The status of the response that the proxy makes.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The gRPC status of the response that the proxy makes to a gRPC request.
    pub fn grpc_code(self) -> GrpcCode {
        GrpcCode::new(self.row().grpc).unwrap_or(GrpcCode::INTERNAL)
    }

    /// Envoy's response flag; `-` where Envoy has none.
    pub fn flag(self) -> &'static str {
        self.row().flag
    }

    /// The error type of RFC 9209 §2.3.
    pub fn proxy_status_error(self) -> &'static str {
        self.row().proxy_status
    }

    /// The whole `Proxy-Status` member of this proxy (RFC 9209 §2): `weir; error=…; details="<reason>"`.
    pub fn proxy_status_header(self) -> HeaderValue {
        HeaderValue::from_static(self.row().header)
    }

    /// How far an attempt that failed so usually got.
    pub fn usual_retry(self) -> RetrySafety {
        self.row().retry
    }

    /// Whether it says something bad about the endpoint that was called (and not about the caller, or about us): what
    /// outlier detection and the balancer count as a failure.
    pub fn blames_endpoint(self) -> bool {
        use Kind::*;
        matches!(
            self,
            ConnectFailed
                | NameUnresolved
                | ConnectTimeout
                | TlsFailed
                | TlsPeerUntrusted
                | UpstreamClosed
                | UpstreamReset
                | UpstreamRefused
                | UpstreamProtocolError
                | ResponseHeadersTooLarge
                | PerTryTimeout
                | RequestTimeout
                | DeadlineExceeded
        )
    }

    /// Adds the underlying error.
    pub fn because(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::new(self).because(source)
    }

    /// Adds words for people.
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(self).detail(detail)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_its_own_lower_case_word() {
        let words: BTreeSet<_> = Kind::ALL.iter().map(|k| k.reason()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
        for (i, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(kind.index(), i);
            assert!(kind.reason().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{kind}");
            assert!(kind.status().as_u16() >= 400);
            assert_ne!(kind.grpc_code().number(), 0);
        }
    }

    #[test]
    fn the_error_types_are_those_of_rfc_9209() {
        const REGISTERED: &[&str] = &[
            "dns_error",
            "destination_not_found",
            "destination_unavailable",
            "connection_refused",
            "connection_terminated",
            "connection_timeout",
            "connection_read_timeout",
            "connection_limit_reached",
            "tls_protocol_error",
            "tls_certificate_error",
            "http_request_error",
            "http_request_denied",
            "http_response_header_section_size",
            "http_response_timeout",
            "http_upgrade_failed",
            "http_protocol_error",
            "proxy_internal_response",
            "proxy_internal_error",
            "proxy_configuration_error",
            "proxy_loop_detected",
        ];
        for kind in Kind::ALL {
            assert!(REGISTERED.contains(&kind.proxy_status_error()), "{kind}");
        }
    }

    #[test]
    fn a_story_names_all_causes_and_the_error_stays_small() {
        let e = Kind::ConnectFailed
            .detail("10.0.0.1:80")
            .because(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused"));
        assert_eq!(e.story(), "connect_failed (10.0.0.1:80): refused");
        assert!(e.retry().is_always_safe());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }
}
