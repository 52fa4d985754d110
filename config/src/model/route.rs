//! From a request to its destination: virtual hosts, routes, actions, and what is changed on the way.

use super::{Fault, RetryPolicy, RouteMatch, SafeRegex};
use http::{HeaderName, HeaderValue, StatusCode, uri::Scheme};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// All routes of one name (Envoy `RouteConfiguration`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteConfig {
    /// The resource name, `<service>.<namespace>.svc.<cluster-domain>:<port>` for a service.
    pub name: Arc<str>,
    /// The host that fits a request best is chosen: exact, longest suffix wildcard, longest prefix wildcard, any.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// The routes of a set of authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VirtualHost {
    /// For people.
    pub name: Arc<str>,
    /// Authorities; no two virtual hosts of a `RouteConfig` share one.
    pub domains: Vec<Domain>,
    /// The first that matches is taken.
    pub routes: Vec<Route>,
}

/// An authority pattern, lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// The authority, with its port if it has one.
    Exact(String),
    /// `*.example.com`: ends with the text (which starts with the dot), with at least one character before it.
    Suffix(String),
    /// `example.*`: starts with the text (which ends with the dot), with at least one character after it.
    Prefix(String),
    /// `*`
    Any,
}

/// One rule: what it matches, what is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// For logs and metrics: `<namespace>/<HTTPRoute>/<rule>`, or `default`.
    pub name: Arc<str>,
    /// Which requests.
    pub matches: RouteMatch,
    /// What becomes of them.
    pub action: Action,
    /// Changes of the request's headers, before it is forwarded.
    pub request_headers: HeaderMutations,
    /// Changes of the response's headers.
    pub response_headers: HeaderMutations,
    /// A fault on purpose.
    pub fault: Option<Fault>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// To a cluster.
    Forward(Forward),
    /// A redirect made here.
    Redirect(Redirect),
    /// An answer made here.
    Respond {
        /// 200 to 599.
        #[serde(serialize_with = "super::set::status")]
        status: StatusCode,
        /// At most 4 KiB.
        body: String,
    },
}

/// Forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// One or several destinations; the sum of weights is 1 to `u32::MAX`.
    pub clusters: Vec<WeightedCluster>,
    /// A change of the path.
    pub path: Option<PathRewrite>,
    /// A change of `Host`.
    pub host: Option<HostRewrite>,
    /// The whole request, to the end of the response; `None`: no limit.
    pub timeout: Option<Duration>,
    /// No byte in either direction for so long; `None`: the listener's.
    pub idle_timeout: Option<Duration>,
    /// Whether and when it is tried again.
    pub retry: Option<RetryPolicy>,
    /// Whether `grpc-timeout` (and, from a trusted hop, a deadline) may only shorten `timeout`. Off: it is taken as it is.
    pub cap_grpc_timeout: bool,
}

/// A destination and its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightedCluster {
    /// The cluster's resource name.
    pub name: Arc<str>,
    /// Its share of the sum of weights; 0: none.
    pub weight: u32,
    /// Header changes for this destination alone, after the route's.
    pub request_headers: HeaderMutations,
    /// Header changes of its responses.
    pub response_headers: HeaderMutations,
}

/// A change of the path; the query stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRewrite {
    /// The matched prefix is replaced (Gateway API `ReplacePrefixMatch`); the route's path match is `Prefix`, `Segments` or `Exact`.
    Prefix(String),
    /// The whole path is replaced (Gateway API `ReplaceFullPath`). On the wire: a regex rewrite of `^.*$`… kept apart here.
    Full(String),
    /// The first match of a pattern is replaced; `\1` names a group.
    Regex {
        /// The pattern.
        pattern: SafeRegex,
        /// The substitution.
        substitution: String,
    },
}

/// A change of `Host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRewrite {
    /// This text.
    Literal(#[serde(serialize_with = "super::set::header_value")] HeaderValue),
}

/// A redirect (Gateway API `RequestRedirect`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "super::set::status")]
    pub status: StatusCode,
    /// Another scheme.
    #[serde(serialize_with = "super::set::display_option")]
    pub scheme: Option<Scheme>,
    /// Another host.
    pub host: Option<String>,
    /// Another port.
    pub port: Option<u16>,
    /// Another path: `Prefix` or `Full`.
    pub path: Option<PathRewrite>,
}

/// Header changes: first removals, then `set`, then `add`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HeaderMutations {
    /// In this order. Names that frame or route a message (`host`, `content-length`, `transfer-encoding`, `connection`,
    /// pseudo-headers) do not occur.
    pub mutations: Vec<HeaderMutation>,
}

impl HeaderMutations {
    /// Whether a header may be changed: not one that frames or routes a message.
    pub fn may_change(name: &HeaderName) -> bool {
        use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
        ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, TE, TRAILER, UPGRADE].contains(name)
            && !["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str())
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.mutations.is_empty()
    }
}

/// One header change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderMutation {
    /// Replaces all values.
    Set(
        #[serde(serialize_with = "super::set::display")] HeaderName,
        #[serde(serialize_with = "super::set::header_value")] HeaderValue,
    ),
    /// Adds a value.
    Add(
        #[serde(serialize_with = "super::set::display")] HeaderName,
        #[serde(serialize_with = "super::set::header_value")] HeaderValue,
    ),
    /// Removes all values.
    Remove(#[serde(serialize_with = "super::set::display")] HeaderName),
}
