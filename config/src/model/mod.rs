//! The validated vocabulary that both binaries share: a value that exists is valid.
//!
//! The words follow Envoy's data model, since they travel as Envoy's resources, with everything that depends only on
//! configuration (regular expressions, header names and values, durations) already parsed.

mod authz;
mod cluster;
mod endpoint;
mod fault;
mod id;
mod listener;
mod matcher;
mod retry;
mod route;
mod set;

pub use authz::{Authz, AuthzPolicy, AuthzRule, PrincipalMatch};
pub use cluster::{
    BLACK_HOLE, Cluster, ConnectionLimits, Discovery, FailurePercentage, INBOUND_PASSTHROUGH, LoadBalancing,
    OutlierDetection, PASSTHROUGH, Protocol, RetryBudget, UpstreamTls,
};
pub use endpoint::{Endpoint, Endpoints, Health, Locality, NAME};
pub use fault::{Abort, Delay, Fault, Fraction};
pub use id::{IdError, SpiffeId, TrustDomain};
pub use listener::{
    ApiListener, ChainMatch, DownstreamTls, HttpOptions, InboundChain, InboundListener, InboundTarget, Listener,
    RouteSource,
};
pub use matcher::{
    HeaderMatch, HeaderPredicate, PathMatch, PatternError, QueryMatch, RouteMatch, SafeRegex, StringMatch,
};
pub use retry::{Backoff, GrpcCode, RetryOn, RetryPolicy};
pub use route::{
    Action, Domain, Forward, HeaderMutation, HeaderMutations, HostRewrite, PathRewrite, Redirect, Route, RouteConfig,
    VirtualHost, WeightedCluster,
};
pub use set::{Kind, ResourceName, Resources, TrustBundle};
