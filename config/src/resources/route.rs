//! `HTTPRoute` and `GRPCRoute` of the Gateway API, as its mesh profile has them: the parents are Services.
//!
//! Both kinds become the same [`RouteSpec`]; a GRPCRoute's matches ask for gRPC.

use super::Switch;
use crate::model::{HeaderMutations, HostRewrite, PathRewrite, Redirect, RetryPolicy, RouteMatch};
use serde::Serialize;
use std::{fmt, sync::Arc, time::Duration};

/// A route's `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// The Services whose requests it routes, at least one.
    pub parents: Vec<ParentRef>,
    /// At least one.
    pub rules: Vec<RouteRule>,
}

/// A service, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceRef {
    /// Its namespace: the route's own unless another is written.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where a route is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentRef {
    /// The service.
    #[serde(flatten)]
    pub service: ServiceRef,
    /// One of its ports; `None`: all that speak HTTP.
    pub port: Option<u16>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// Its name, or its index from 0.
    pub name: String,
    /// One of these; never empty. (None written: every path.)
    pub matches: Vec<RouteMatch>,
    /// What is changed.
    pub filters: Filters,
    /// Where it goes; the sum of weights is at least 1. Empty: with a redirect, nowhere; else to the parent itself.
    pub backends: Vec<BackendRef>,
    /// `timeouts.request`; `0s` is off.
    pub request_timeout: Option<Switch<Duration>>,
    /// `timeouts.backendRequest`: of one try; `0s` is off.
    pub backend_timeout: Option<Switch<Duration>>,
    /// `retry` (GEP-1731); `attempts: 0` is off.
    pub retry: Option<Switch<RetryPolicy>>,
}

/// What a rule or a backend changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filters {
    /// `RequestHeaderModifier`
    pub request_headers: HeaderMutations,
    /// `ResponseHeaderModifier`
    pub response_headers: HeaderMutations,
    /// `RequestRedirect`
    pub redirect: Option<Redirect>,
    /// `URLRewrite`: the host.
    pub host: Option<HostRewrite>,
    /// `URLRewrite`: the path.
    pub path: Option<PathRewrite>,
}

/// A destination and its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// The service.
    #[serde(flatten)]
    pub service: ServiceRef,
    /// Its port.
    pub port: u16,
    /// Its share, 0 to 1,000,000; 1 unless written.
    pub weight: u32,
    /// Header changes of requests to this backend alone.
    pub request_headers: HeaderMutations,
    /// Header changes of its responses.
    pub response_headers: HeaderMutations,
}
