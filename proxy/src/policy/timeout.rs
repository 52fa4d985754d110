//! The end of a request's time: the route's timeout, or the caller's own deadline (`grpc-timeout`), whichever is shorter.
//! It covers the whole response; on the way it is handed on, shortened by what has passed.

use crate::{
    alarm::{Alarm, until},
    error::{Error, Kind},
    logic::grpc_timeout,
    request::{Deadline, Routed},
    stage::{Response, Stage},
    state::RouteAction,
};
use http::{HeaderName, StatusCode};
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
        let deadline = routed.deadline;
        let kind = match deadline {
            Some(Deadline { callers: true, .. }) => Kind::DeadlineExceeded,
            _ => Kind::RequestTimeout,
        };
        if deadline.is_some_and(|d| d.at <= Instant::now()) {
            return Err(kind.detail("the deadline had passed before the request was sent"));
        }
        let end = deadline.map(|d| d.at);
        // A request that changes its protocol has no body, and what follows is not one.
        let answered =
            idle.filter(|_| !routed.request.upgrading).and_then(|idle| routed.request.body.idle_timeout(idle));
        let Some(response) = until(end, self.0.call(routed)).await else { return Err(Error::new(kind)) };
        let mut response = response?;
        if let Some(answered) = answered {
            answered.now();
        }
        if http_body::Body::is_end_stream(response.body()) {
            return Ok(response);
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.body_mut().hold().deadline = end.map(Alarm::new);
        }
        if let Some(idle) = idle {
            response.body_mut().idle_timeout(idle);
        }
        Ok(response)
    }
}

fn deadline(routed: &Routed) -> Option<Deadline> {
    let RouteAction::Forward(forward) = &routed.route.action else { return None };
    let start = routed.request.received;
    let route = forward.timeout.map(|t| Deadline { at: start + t, callers: false });
    let callers = routed
        .request
        .fields
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
