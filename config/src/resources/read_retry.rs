//! Reads retries: of a TrafficPolicy, and of a route rule (GEP-1731).

use super::{
    Switch,
    node::Node,
    read::{Fields, Reader},
};
use crate::model::{Backoff, GrpcCode, RetryOn, RetryPolicy};
use std::time::Duration;

/// As Envoy's default; GEP-1731 leaves it to the implementation.
const ATTEMPTS: u32 = 1;
const LONGEST: Duration = Duration::from_secs(3600);
const MILLI: Duration = Duration::from_millis(1);

#[derive(Clone, Copy)]
enum Outcome {
    ConnectFailure,
    Reset,
    ServerError,
    GatewayError,
    /// Always tried again while the budget allows it; taken so that Envoy's usual lists can be written.
    RefusedStream,
    Grpc(GrpcCode),
}

const OUTCOMES: [(&str, Outcome); 10] = [
    ("connect-failure", Outcome::ConnectFailure),
    ("refused-stream", Outcome::RefusedStream),
    ("reset", Outcome::Reset),
    ("5xx", Outcome::ServerError),
    ("gateway-error", Outcome::GatewayError),
    ("cancelled", Outcome::Grpc(GrpcCode::CANCELLED)),
    ("deadline-exceeded", Outcome::Grpc(GrpcCode::DEADLINE_EXCEEDED)),
    ("internal", Outcome::Grpc(GrpcCode::INTERNAL)),
    ("resource-exhausted", Outcome::Grpc(GrpcCode::RESOURCE_EXHAUSTED)),
    ("unavailable", Outcome::Grpc(GrpcCode::UNAVAILABLE)),
];

/// `retry` of a TrafficPolicy.
pub(super) fn policy(r: &mut Reader, node: &Node) -> Option<Switch<RetryPolicy>> {
    let mut f = r.fields(node)?;
    let named = outcomes(r, &mut f);
    let statuses = f.optional(r, "statusCodes", |r, n| statuses(r, n, 200));
    let attempts = attempts(r, &mut f);
    let timeout = f.optional(r, "perTryTimeout", |r, n| r.duration_in(n, MILLI, LONGEST));
    let backoff = f.optional(r, "backoff", backoff).unwrap_or_default();
    f.close(r);
    if attempts == 0 {
        return Some(Switch::Off);
    }
    let mut on = RetryOn::default();
    if named.is_none() && statuses.is_none() {
        // What a bare `attempts: 2` asks for: failures in which no answer began.
        on = RetryOn { connect_failure: true, gateway_error: true, grpc: vec![GrpcCode::UNAVAILABLE], ..on };
    }
    for outcome in named.into_iter().flatten() {
        match outcome {
            Outcome::ConnectFailure => on.connect_failure = true,
            Outcome::Reset => on.reset = true,
            Outcome::ServerError => on.server_error = true,
            Outcome::GatewayError => on.gateway_error = true,
            Outcome::RefusedStream => {}
            Outcome::Grpc(code) => on.grpc.push(code),
        }
    }
    on.grpc.sort_unstable();
    on.grpc.dedup();
    on.statuses = statuses.unwrap_or_default();
    Some(Switch::On(RetryPolicy { on, attempts, per_try_timeout: timeout, backoff }))
}

/// `retryOn`, or `on`, which YAML 1.1 reads as `true` unless it is in quotes: `kubectl` does.
fn outcomes(r: &mut Reader, f: &mut Fields<'_>) -> Option<Vec<Outcome>> {
    if let (Some(node), Some(_)) = (f.find("on"), f.find("retryOn")) {
        let remedy = Some("leave `on` out".into());
        r.within("on", |r| r.issue(node, "`on` is another name of `retryOn`, which is there too", remedy));
    }
    let words = |r: &mut Reader, n: &Node| r.list(n, |r, n, _| r.word(n, &OUTCOMES));
    let named = f.optional(r, "retryOn", words);
    named.or_else(|| f.optional(r, "on", words))
}

/// `retry` of a route rule (GEP-1731): the statuses it names, and, as the GEP asks, connections that fail or are reset.
pub(super) fn route(r: &mut Reader, node: &Node) -> Option<Switch<RetryPolicy>> {
    let mut f = r.fields(node)?;
    let statuses = f.optional(r, "codes", |r, n| statuses(r, n, 400)).unwrap_or_default();
    let attempts = attempts(r, &mut f);
    let base = f.optional(r, "backoff", |r, n| r.duration_in(n, MILLI, LONGEST));
    f.close(r);
    if attempts == 0 {
        return Some(Switch::Off);
    }
    let backoff = base.map_or_else(Backoff::default, |base| Backoff { base, max: base * 10 });
    let on = RetryOn { connect_failure: true, reset: true, statuses, ..RetryOn::default() };
    Some(Switch::On(RetryPolicy { on, attempts, per_try_timeout: None, backoff }))
}

fn attempts(r: &mut Reader, f: &mut Fields<'_>) -> u32 {
    f.optional(r, "attempts", |r, n| r.small(n, 0, 10)).unwrap_or(ATTEMPTS)
}

fn statuses(r: &mut Reader, node: &Node, min: i64) -> Option<Vec<u16>> {
    let mut codes = r.list(node, |r, n, _| r.whole(n, min, 599).and_then(|n| u16::try_from(n).ok()))?;
    codes.sort_unstable();
    codes.dedup();
    Some(codes)
}

fn backoff(r: &mut Reader, node: &Node) -> Option<Backoff> {
    let mut f = r.fields(node)?;
    let base = f.optional(r, "base", |r, n| r.duration_in(n, MILLI, LONGEST));
    let max = f.optional(r, "max", |r, n| r.duration_in(n, MILLI, LONGEST));
    let usual = Backoff::default();
    let base = base.unwrap_or(usual.base.min(max.unwrap_or(LONGEST)));
    let backoff = Backoff { base, max: max.unwrap_or(base * 10) };
    if backoff.max < backoff.base {
        let at = f.find("max").unwrap_or(node);
        r.within("max", |r| r.issue(at, "`max` is shorter than `base`", Some("raise it, or lower `base`".into())));
    }
    f.close(r);
    Some(backoff)
}
