//! Declared retries ⇄ Envoy's `RetryPolicy` (gRFC A44 honours the gRPC codes, the number and the back-off).
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::wire::{At, Report, duration, ignored, number, pack, pb, read_positive, shown, unsupported};
use crate::model::{Backoff, GrpcCode, RetryOn, RetryPolicy};
use pb::route::retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType};
use std::time::Duration;

const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";
/// The most tries the model has.
const ATTEMPTS: u32 = 10;
const GRPC: [(&str, GrpcCode); 5] = [
    ("cancelled", GrpcCode::CANCELLED),
    ("deadline-exceeded", GrpcCode::DEADLINE_EXCEEDED),
    ("resource-exhausted", GrpcCode::RESOURCE_EXHAUSTED),
    ("internal", GrpcCode::INTERNAL),
    ("unavailable", GrpcCode::UNAVAILABLE),
];

/// A route's retries.
pub(super) fn policy(p: &RetryPolicy) -> pb::route::RetryPolicy {
    let avoid_previous = RetryHostPredicate {
        name: PREVIOUS_HOSTS.into(),
        config_type: Some(ConfigType::TypedConfig(pack(&pb::previous_hosts::PreviousHostsPredicate {}))),
    };
    pb::route::RetryPolicy {
        retry_on: conditions(&p.on),
        num_retries: number(p.attempts),
        per_try_timeout: p.per_try_timeout.map(duration),
        retriable_status_codes: p.on.statuses.iter().map(|s| u32::from(*s)).collect(),
        retry_back_off: Some(RetryBackOff {
            base_interval: Some(duration(p.backoff.base)),
            max_interval: Some(duration(p.backoff.max)),
        }),
        retry_host_predicate: vec![avoid_previous],
        host_selection_retry_max_attempts: 5,
        ..Default::default()
    }
}

fn conditions(on: &RetryOn) -> String {
    let flags = [
        ("connect-failure", on.connect_failure),
        ("reset", on.reset),
        ("5xx", on.server_error),
        ("gateway-error", on.gateway_error),
        ("retriable-status-codes", !on.statuses.is_empty()),
        // What was provably not processed is always tried again here; Envoy must be told.
        ("refused-stream", true),
    ];
    let flags = flags.into_iter().filter_map(|(word, set)| set.then_some(word));
    let codes = GRPC.into_iter().filter_map(|(word, code)| on.grpc.contains(&code).then_some(word));
    flags.chain(codes).collect::<Vec<_>>().join(",")
}

/// Reads a route's retries; zero tries are none.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: pb::route::RetryPolicy) -> Option<RetryPolicy> {
    let pb::route::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_priority,
        retry_host_predicate,
        retry_options_predicates,
        host_selection_retry_max_attempts: _,
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        refresh_cluster_on_retry,
    } = sent;
    unsupported!(out, at; per_try_idle_timeout, retry_options_predicates, rate_limited_retry_back_off,
        retriable_headers, retriable_request_headers, refresh_cluster_on_retry);
    ignored!(out, at; retry_priority);
    for (i, predicate) in retry_host_predicate.iter().enumerate() {
        if predicate.name != PREVIOUS_HOSTS {
            out.note(&at.item("retry_host_predicate", i), "is ignored");
        }
    }
    let mut on = read_conditions(out, &at.field("retry_on"), &retry_on);
    if retry_on.contains("retriable-status-codes") {
        on.statuses.extend(read_statuses(out, at, &retriable_status_codes));
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    let attempts = num_retries.map_or(1, |n| n.value);
    if attempts > ATTEMPTS {
        out.note(&at.field("num_retries"), format!("is taken as {ATTEMPTS}"));
    }
    let per_try_timeout = read_positive(out, at, "per_try_timeout", per_try_timeout);
    let backoff =
        retry_back_off.map_or(Some(Backoff::default()), |b| read_backoff(out, &at.field("retry_back_off"), b))?;
    (attempts > 0).then_some(RetryPolicy { on, attempts: attempts.min(ATTEMPTS), per_try_timeout, backoff })
}

fn read_conditions(out: &mut Report, at: &At<'_>, text: &str) -> RetryOn {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "connect-failure" => on.connect_failure = true,
            "reset" => on.reset = true,
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "retriable-4xx" => on.statuses.push(409),
            "retriable-status-codes" | "refused-stream" | "reset-before-request" => {}
            _ => match GRPC.iter().find(|(w, _)| *w == word) {
                Some((_, code)) => on.grpc.push(*code),
                None => out.refuse(at, format!("`{}` is not supported", shown(word))),
            },
        }
    }
    on.grpc.sort_unstable();
    on.grpc.dedup();
    on
}

fn read_statuses(out: &mut Report, at: &At<'_>, sent: &[u32]) -> Vec<u16> {
    let status = |s: &u32| u16::try_from(*s).ok().filter(|s| (100..600).contains(s));
    let statuses: Vec<u16> = sent.iter().filter_map(status).collect();
    if statuses.len() != sent.len() {
        out.refuse(&at.field("retriable_status_codes"), "has a number that is not between 100 and 599");
    }
    statuses
}

fn read_backoff(out: &mut Report, at: &At<'_>, sent: RetryBackOff) -> Option<Backoff> {
    let RetryBackOff { base_interval, max_interval } = sent;
    let Some(base) = read_positive(out, at, "base_interval", base_interval) else {
        out.refuse(&at.field("base_interval"), "is required and not zero");
        return None;
    };
    // Envoy rounds up to a millisecond, and takes ten times the base where no maximum is given.
    let base = base.max(Duration::from_millis(1));
    let max = read_positive(out, at, "max_interval", max_interval).unwrap_or(base * 10);
    if max < base {
        out.refuse(&at.field("max_interval"), "is less than `base_interval`");
        return None;
    }
    Some(Backoff { base, max })
}
