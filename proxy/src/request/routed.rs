//! A request once its route is known, and each try to carry it out.

use super::Request;
use crate::{
    error::Error,
    logic::Permit,
    record::Record,
    state::{Cluster, Endpoint, Route, Target},
    upstream::{Client, Message},
};
use http::Version;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::time::Instant;

/// A request whose destination is known.
pub struct Routed {
    /// The request.
    pub request: Box<Request>,
    /// The rule that was chosen.
    pub route: Arc<Route>,
    /// The destination that was drawn.
    pub target: Arc<Target>,
    /// That destination's cluster.
    pub cluster: Arc<Cluster>,
    /// The end of the request's time, and whether the caller set it (else the route did).
    pub deadline: Option<Deadline>,
}

/// The end of a request's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// Whether it is the caller's own (`grpc-timeout`), not the route's timeout.
    pub callers: bool,
}

/// One try.
pub struct Attempt {
    /// What is sent.
    pub message: Message,
    /// Where to.
    pub cluster: Arc<Cluster>,
    /// Whose it is.
    pub client: Client,
    /// Whether it is gRPC.
    pub grpc: bool,
    /// What the client spoke.
    pub spoken: Version,
    /// Endpoints that failed this request already, by their slots.
    pub tried: SmallVec<[usize; 2]>,
    /// Whether it is to take a new connection.
    pub fresh: bool,
    /// The end of the request's time.
    pub deadline: Option<Instant>,
    /// What is told about the request.
    pub record: Record,
    /// Its place among the requests that the cluster takes.
    pub permit: Option<Permit>,
}

/// A try for which an endpoint was chosen.
pub struct Placed {
    /// The try.
    pub attempt: Box<Attempt>,
    /// Its endpoint.
    pub endpoint: Arc<Endpoint>,
    /// When it was chosen.
    pub begun: Instant,
}

/// A try that brought no response.
pub struct AttemptFailed {
    /// Why.
    pub error: Error,
    /// The message, where not a byte of it had left.
    pub message: Option<Message>,
    /// The endpoint's slot, if one had been chosen.
    pub slot: Option<usize>,
}
