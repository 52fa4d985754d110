//! The end of a request's time: the route's timeout, or the caller's own deadline (`grpc-timeout`), whichever is shorter.
//! It covers the whole response; on the way it is handed on, shortened by what has passed.

use crate::{
    error::{Error, Kind},
    logic::grpc_timeout,
    request::{Deadline, Routed},
    stage::{Response, Stage},
    state::RouteAction,
};
use http::{HeaderName, StatusCode};
use std::time::Duration;
use tokio::time::Instant;

/// Ends what takes too long.
pub struct Timeout<N>(pub N);

/// The caller's deadline (gRPC over HTTP/2, "Requests").
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

impl<N: Stage<Routed, Failure = Error>> Stage<Routed> for Timeout<N> {
    type Failure = Error;

    async fn call(&self, mut routed: Routed) -> Result<Response, Error> {
        let idle = match &routed.route.action {
            RouteAction::Forward(forward) => forward.idle_timeout,
            _ => None,
        };
        routed.deadline = deadline(&routed);
        let Some(deadline) = routed.deadline else {
            let mut response = self.0.call(routed).await?;
            hold_idle(&mut response, idle);
            return Ok(response);
        };
        let kind = if deadline.callers { Kind::DeadlineExceeded } else { Kind::RequestTimeout };
        if deadline.at <= Instant::now() {
            return Err(kind.detail("the deadline had passed before the request was sent"));
        }
        let mut sleep = Box::pin(tokio::time::sleep_until(deadline.at));
        let mut response = tokio::select! {
            biased;
            response = self.0.call(routed) => response?,
            () = &mut sleep => return Err(Error::new(kind)),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS && !http_body::Body::is_end_stream(response.body()) {
            response.body_mut().hold().deadline = Some(sleep);
        }
        hold_idle(&mut response, idle);
        Ok(response)
    }
}

fn hold_idle(response: &mut Response, idle: Option<Duration>) {
    if let Some(idle) = idle
        && !http_body::Body::is_end_stream(response.body())
    {
        response.body_mut().idle_timeout(idle);
    }
}

fn deadline(routed: &Routed) -> Option<Deadline> {
    let RouteAction::Forward(forward) = &routed.route.action else { return None };
    let start = routed.request.received;
    let route = forward.timeout.map(|t| Deadline { at: start + t, callers: false });
    let callers = routed
        .request
        .grpc
        .then(|| routed.request.parts.headers.get(&GRPC_TIMEOUT))
        .flatten()
        .and_then(|value| grpc_timeout::parse(value.as_bytes()))
        .and_then(|timeout| start.checked_add(timeout))
        .map(|at| Deadline { at, callers: true });
    match (route, callers) {
        (Some(r), Some(c)) if c.at <= r.at || !forward.cap_grpc_timeout => Some(c),
        (None, Some(c)) => Some(c),
        (route, _) => route,
    }
}
