//! The outbound order: from the application's request to another sidecar.

use super::Parts;
use crate::{
    policy::{
        balance::Balance,
        breaker::Breaker,
        fault::Fault,
        forward::Forward,
        headers::Headers,
        observe::Observe,
        retry::Retry,
        route::RouteOutbound,
        timeout::{self, Timeout},
        trace::Trace,
        upgrade::Upgrades,
    },
    request::Request,
    stage::{Response, Stage},
    state::State,
};
use std::{convert::Infallible, pin::Pin, sync::Arc};

/// The outbound stack.
pub struct Outbound(Box<dyn Boxed>);

impl Outbound {
    /// Put together once for the process.
    pub fn new(parts: &Parts, state: Arc<State>) -> Self {
        let per_try =
            // Refuses above the limit before an endpoint is chosen for it.
            Breaker(
            // Chooses anew for each try, avoiding where it failed.
            Balance(
            // Sends.
            Forward));
        let routed =
            // What the route changes is changed once, for all tries.
            Headers(
            // A fault is what the caller would see: retries do not hide it, its delay counts against the deadline…
            Fault(
            // …which covers everything from here, all tries and waits together.
            Timeout { stalled: timeout::STALLED, next:
            // Joins both sides when the destination agrees; the deadline ends there.
            Upgrades { tunnel: parts.tunnel.clone(), next:
            // Tries again.
            Retry { memory: parts.memory.clone(), next: per_try } } }));
        Self(Box::new(
            // Sees everything, and turns every failure into a response that says why.
            Observe(
                // Headers that tie this hop to the others, before anything is refused.
                Trace(
                    // What follows depends on the route.
                    RouteOutbound { state, next: routed },
                ),
            ),
        ))
    }

    /// Answers a request.
    pub fn call(&self, request: Box<Request>) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        self.0.boxed(request)
    }
}

/// The one box: without it, the type of a whole stack's future would stand in every connection's.
trait Boxed: Send + Sync {
    fn boxed(&self, request: Box<Request>) -> Pin<Box<dyn Future<Output = Response> + Send + '_>>;
}

impl<S: Stage<Box<Request>, Failure = Infallible>> Boxed for S {
    fn boxed(&self, request: Box<Request>) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async move {
            match self.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}
