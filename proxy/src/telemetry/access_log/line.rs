//! One line of the access log. Names are Istio's where Istio has one; a query is never written, since secrets travel in
//! queries, and neither is any header save the few that are named here.

use crate::{
    error::Kind,
    telemetry::{
        RequestRecord,
        record::{Attempt, AttemptResult},
    },
};
use serde::Serialize;
use std::{net::SocketAddr, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Texts that clients choose are cut at this many bytes.
const LONGEST: usize = 2_048;

/// Appends the line, with its line feed.
pub(super) fn write(record: &RequestRecord, out: &mut Vec<u8>) {
    let start = out.len();
    match serde_json::to_writer(&mut *out, &Line::of(record)) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(start),
    }
}

#[derive(Serialize)]
struct Line<'a> {
    start_time: String,
    direction: &'static str,
    protocol: &'static str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    path: &'a str,
    response_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u8>,
    response_flags: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_details: Option<&'a str>,
    /// Milliseconds, as all times here.
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttfb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_service_time: Option<f64>,
    bytes_received: u64,
    bytes_sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_host: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_workload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_reused: Option<bool>,
    attempts: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_attempts: Vec<Failed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    downstream_remote_address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_kx: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_forwarded_for: Option<&'a str>,
}

/// A try before the last one.
#[derive(Serialize)]
struct Failed {
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_host: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Kind>,
    duration: f64,
}

impl<'a> Line<'a> {
    fn of(r: &'a RequestRecord) -> Self {
        let last = r.attempts.last();
        let before = r.attempts.len().saturating_sub(1);
        Self {
            start_time: OffsetDateTime::from(r.start).format(&Rfc3339).unwrap_or_default(),
            direction: r.direction.as_str(),
            protocol: r.protocol.as_str(),
            method: cut(r.method.as_str()),
            authority: r.authority.as_deref().map(cut),
            path: cut(r.uri.path()),
            // Envoy's 0: no response was sent.
            response_code: r.status.unwrap_or(0),
            grpc_status: r.grpc_status,
            response_flags: flags(r),
            reason: r.reason,
            reason_details: r.reason_details.as_deref().map(cut),
            duration: millis(r.duration),
            ttfb: r.time_to_headers.map(millis),
            proxy_duration: r.overhead.map(millis),
            upstream_service_time: last.map(|a| millis(a.took)),
            bytes_received: r.bytes_received,
            bytes_sent: r.bytes_sent,
            route_name: r.route.as_deref(),
            upstream_cluster: r.cluster.as_deref(),
            upstream_host: last.and_then(|a| a.endpoint),
            destination_workload: last.map(|a| &*a.workload).filter(|w| !w.is_empty()),
            connection_reused: last.map(|a| a.connection_reused),
            attempts: r.attempts.len(),
            failed_attempts: r.attempts[..before].iter().map(Failed::of).collect(),
            downstream_remote_address: r.peer,
            source_identity: r.source_identity.as_ref().map(ToString::to_string),
            destination_identity: r.destination_identity.as_ref().map(ToString::to_string),
            requested_server_name: r.server_name.as_deref().map(cut),
            tls_version: r.tls_version,
            tls_kx: r.tls_key_exchange,
            request_id: r.request_id.as_deref().map(cut),
            trace_id: r.trace_id.as_deref().map(cut),
            span_id: r.span_id.as_deref().map(cut),
            user_agent: r.user_agent.as_deref().map(cut),
            x_forwarded_for: r.forwarded_for.as_deref().map(cut),
        }
    }
}

impl Failed {
    fn of(attempt: &Attempt) -> Self {
        let (response_code, grpc_status, reason) = match attempt.result {
            AttemptResult::Answered(status, grpc) => (Some(status), grpc, None),
            AttemptResult::Failed(kind) => (None, None, Some(kind)),
        };
        Self { upstream_host: attempt.endpoint, response_code, grpc_status, reason, duration: millis(attempt.took) }
    }
}

fn flags(r: &RequestRecord) -> &'static str {
    match r.reason {
        Some(kind) => kind.flag(),
        None if r.delay_injected => "DI",
        None => "-",
    }
}

/// Milliseconds with three decimals.
fn millis(d: Duration) -> f64 {
    d.as_micros() as f64 / 1_000.0
}

fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(LONGEST)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Direction, Protocol};
    use std::time::SystemTime;

    fn json(record: &RequestRecord) -> serde_json::Value {
        let mut out = Vec::new();
        write(record, &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    fn record(uri: &str) -> RequestRecord {
        RequestRecord::new(
            SystemTime::UNIX_EPOCH,
            Direction::Outbound,
            Protocol::Http2,
            http::Method::POST,
            uri.parse().unwrap(),
        )
    }

    #[test]
    fn a_retried_request_tells_each_try() {
        let attempt = |port, result| Attempt {
            endpoint: Some(SocketAddr::from(([127, 0, 0, 1], port))),
            workload: "demo/billing-1".into(),
            began: Duration::ZERO,
            took: Duration::from_micros(1_500),
            result,
            connection_reused: true,
            panicking: false,
        };
        let mut r = record("/charge?card=4111");
        r.attempts.push(attempt(1, AttemptResult::Failed(Kind::UpstreamRefused)));
        r.attempts.push(attempt(2, AttemptResult::Answered(200, Some(0))));
        r.status = Some(200);
        let line = json(&r);
        assert_eq!(line["start_time"], "1970-01-01T00:00:00Z");
        assert_eq!((&line["path"], &line["response_flags"]), (&"/charge".into(), &"-".into()));
        assert_eq!((&line["attempts"], &line["upstream_host"]), (&2.into(), &"127.0.0.1:2".into()));
        assert_eq!(line["failed_attempts"][0]["reason"], "upstream_refused");
        assert_eq!(line["upstream_service_time"], 1.5);
        assert!(!line.to_string().contains("4111"));
    }

    #[test]
    fn a_failure_has_its_reason_and_envoy_s_flag() {
        let mut r = record("/");
        r.reason = Some(Kind::NoHealthyEndpoint);
        r.reason_details = Some("all 3 are ejected".into());
        let line = json(&r);
        assert_eq!((&line["reason"], &line["response_flags"]), (&"no_healthy_endpoint".into(), &"UH".into()));
        assert_eq!(line["response_code"], 0);
    }

    #[test]
    fn what_a_client_sends_cannot_break_a_line_or_grow_it_without_end() {
        let mut r = record("/");
        r.user_agent = Some("a\"}\n{\u{1b}[31m\\".into());
        r.authority = Some("ä".repeat(5_000).into());
        let line = json(&r);
        assert_eq!(line["user_agent"], "a\"}\n{\u{1b}[31m\\");
        assert!(line["authority"].as_str().unwrap().len() <= LONGEST);
    }
}
