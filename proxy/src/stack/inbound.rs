//! The inbound order: from another sidecar's request to our application.

use super::Parts;
use crate::{
    policy::{
        authz::Authorise,
        balance::Balance,
        breaker::Breaker,
        fault::Fault,
        forward::Forward,
        headers::Headers,
        observe::Observe,
        retry::Retry,
        route::RouteInbound,
        timeout::{self, Timeout},
        trace::Trace,
        upgrade::Upgrades,
    },
    request::Request,
    stage::{Response, Stage},
    state::{InboundChain, InboundService},
};
use std::{pin::Pin, sync::Arc};

/// Answers a request that came over a chain. The stack is a few pointers, put together for each request, since the rules
/// of its chain may have changed since the last.
pub fn inbound(
    parts: &Parts,
    chain: &Arc<InboundChain>,
    request: Box<Request>,
) -> Pin<Box<dyn Future<Output = Response> + Send>> {
    let InboundService::Http { routes, .. } = &chain.service else {
        return Box::pin(std::future::ready(crate::reply::error(&crate::error::Kind::BytesRefused.into(), false)));
    };
    let to_application =
        // What a route of the called side changes.
        Headers(
        // Made where it is asked for: at this instance alone.
        Fault(
        // The caller's deadline holds here too.
        Timeout { stalled: timeout::LONG_STALLED, next:
        // Joins both sides when the application agrees.
        Upgrades { tunnel: parts.tunnel.clone(), next:
        // Only what the application never saw: its keep-alive connections end without notice.
        Retry { memory: parts.memory.clone(), next:
        // The application's own limits.
        Breaker(
        // There is one endpoint; its failures are counted all the same.
        Balance(
        // Sends.
        Forward)) } } }));
    let stack =
        // Sees everything, and turns every failure into a response that says why.
        Observe(
        // Headers that tie this hop to the others; also tells the application who calls.
        Trace(
        // Before anything that costs or tells: who may not, learns nothing of routes.
        Authorise { chain: chain.clone(), metrics: parts.metrics.clone(), next:
        // What follows depends on the route.
        RouteInbound { routes: routes.clone(), next: to_application } }));
    Box::pin(async move {
        match stack.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    })
}
