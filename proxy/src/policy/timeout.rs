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
use std::time::Duration;
use tokio::time::Instant;

/// Ends what takes too long.
pub struct Timeout<N> {
    /// The longest that a request's body may stand still while its destination waits for it, whatever its route allows.
    /// Of gRPC it is a stream, whose silence says nothing.
    pub stalled: Duration,
    /// What comes next.
    pub next: N,
}

/// [`Timeout::stalled`] beside the client.
pub const STALLED: Duration = Duration::from_secs(300);
/// And beside the application: the other side may allow more.
pub const LONG_STALLED: Duration = Duration::from_secs(3600);

/// The caller's deadline (gRPC over HTTP/2, "Requests").
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

impl<N> Timeout<N> {
    /// How long a request's body may stand still.
    fn patience(&self, idle: Duration, grpc: bool) -> Duration {
        if grpc { idle } else { idle.min(self.stalled) }
    }
}

impl<N: Stage<Box<Routed>, Failure = Error>> Stage<Box<Routed>> for Timeout<N> {
    type Failure = Error;

    async fn call(&self, mut routed: Box<Routed>) -> Result<Response, Error> {
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
        let body = idle.filter(|_| !routed.request.upgrading);
        let body = body.map(|idle| self.patience(idle, routed.request.fields.grpc));
        let answered = body.and_then(|idle| routed.request.body.idle_timeout(idle));
        let Some(response) = until(end, self.next.call(routed)).await else { return Err(Error::new(kind)) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_stands_still_is_given_up_before_a_silent_stream_is() {
        let (day, short) = (Duration::from_secs(24 * 3600), Duration::from_secs(1));
        let timeout = Timeout { stalled: STALLED, next: () };
        assert_eq!([day, short].map(|idle| timeout.patience(idle, false)), [STALLED, short]);
        assert_eq!([day, short].map(|idle| timeout.patience(idle, true)), [day, short]);
    }
}
