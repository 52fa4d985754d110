//! Faults ⇄ Envoy's `HTTPFault` (gRFC A33), given per route under the name of the fault filter.

use super::wire::{At, Report, duration, fraction, ignored, pb, read_duration, read_fraction, unpack, unsupported};
use crate::model::{Abort, Delay, Fault, Fraction, GrpcCode};
use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind as ValueKind};
use pb::fault::fault_abort::ErrorType;
use pb::fault_common::fault_delay::FaultDelaySecifier;

/// The name of the filter, and of the per-route configuration.
pub(super) const FILTER: &str = "envoy.filters.http.fault";
/// Envoy has one status, HTTP's or gRPC's; where the model has both, HTTP's travels here.
const HTTP_STATUS: &str = "http_status";

/// A route's fault.
pub(super) fn fault(f: &Fault) -> pb::fault::HttpFault {
    let delay = f.delay.map(|d| pb::fault_common::FaultDelay {
        percentage: Some(fraction(d.share)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(d.fixed))),
    });
    let abort = f.abort.map(|a| pb::fault::FaultAbort {
        percentage: Some(fraction(a.share)),
        response_body: String::new(),
        error_type: Some(match a.grpc_status {
            Some(code) => ErrorType::GrpcStatus(code.into()),
            None => ErrorType::HttpStatus(a.status.into()),
        }),
    });
    let beside = f.abort.filter(|a| a.grpc_status.is_some()).map(|a| {
        let status = Value { kind: Some(ValueKind::NumberValue(a.status.into())) };
        Struct { fields: [(HTTP_STATUS.to_owned(), status)].into() }
    });
    pb::fault::HttpFault { delay, abort, filter_metadata: beside, ..Default::default() }
}

/// Reads a route's fault; without delay and abort it is none.
pub(super) fn read(out: &mut Report, at: &At<'_>, any: &Any) -> Option<Fault> {
    let pb::fault::HttpFault {
        delay,
        abort,
        upstream_cluster,
        headers,
        downstream_nodes,
        max_active_faults,
        response_rate_limit,
        delay_percent_runtime,
        abort_percent_runtime,
        delay_duration_runtime,
        abort_http_status_runtime,
        max_active_faults_runtime,
        response_rate_limit_percent_runtime,
        abort_grpc_status_runtime,
        disable_downstream_cluster_stats: _,
        filter_metadata,
    } = unpack(out, at, any)?;
    unsupported!(out, at; upstream_cluster, headers, downstream_nodes, max_active_faults, response_rate_limit);
    ignored!(out, at; delay_percent_runtime, abort_percent_runtime, delay_duration_runtime, abort_http_status_runtime,
        max_active_faults_runtime, response_rate_limit_percent_runtime, abort_grpc_status_runtime);
    let delay = delay.and_then(|d| read_delay(out, &at.field("delay"), d));
    let abort = abort.and_then(|a| read_abort(out, &at.field("abort"), a, filter_metadata.as_ref()));
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

fn share(out: &mut Report, at: &At<'_>, sent: Option<pb::ty::FractionalPercent>) -> Option<Fraction> {
    // Envoy: a fault without a percentage happens to nobody.
    sent.map_or(Fraction::from_millionths(0), |p| read_fraction(out, &at.field("percentage"), p))
}

fn read_delay(out: &mut Report, at: &At<'_>, sent: pb::fault_common::FaultDelay) -> Option<Delay> {
    let pb::fault_common::FaultDelay { percentage, fault_delay_secifier } = sent;
    let Some(FaultDelaySecifier::FixedDelay(fixed)) = fault_delay_secifier else {
        out.refuse(at, "has no `fixed_delay`");
        return None;
    };
    let fixed = read_duration(out, at, "fixed_delay", Some(fixed))?;
    Some(Delay { fixed, share: share(out, at, percentage)? })
}

fn read_abort(out: &mut Report, at: &At<'_>, sent: pb::fault::FaultAbort, beside: Option<&Struct>) -> Option<Abort> {
    let pb::fault::FaultAbort { percentage, response_body, error_type } = sent;
    unsupported!(out, at; response_body);
    let share = share(out, at, percentage)?;
    let (status, grpc_status) = match error_type {
        Some(ErrorType::HttpStatus(s)) => (u16::try_from(s).ok(), None),
        Some(ErrorType::GrpcStatus(code)) => {
            let Some(code) = u8::try_from(code).ok().and_then(GrpcCode::new) else {
                out.refuse(&at.field("grpc_status"), "is not between 0 and 16");
                return None;
            };
            (http_status(beside).or(Some(code.http_status())), Some(code.number()))
        }
        Some(ErrorType::HeaderAbort(_)) | None => {
            out.refuse(at, "has no `http_status` or `grpc_status`");
            return None;
        }
    };
    let Some(status) = status.filter(|s| (200..600).contains(s)) else {
        out.refuse(&at.field("http_status"), "is not between 200 and 599");
        return None;
    };
    Some(Abort { status, grpc_status, share })
}

fn http_status(beside: Option<&Struct>) -> Option<u16> {
    match beside?.fields.get(HTTP_STATUS)?.kind {
        Some(ValueKind::NumberValue(n)) if (200.0..600.0).contains(&n) => Some(n as u16),
        _ => None,
    }
}

/// The filter in a chain must be there for the routes' faults, and must not have one of its own.
pub(super) fn read_filter(out: &mut Report, at: &At<'_>, any: &Any) {
    if let Some(f) = unpack::<pb::fault::HttpFault>(out, at, any)
        && f != pb::fault::HttpFault::default()
    {
        out.refuse(at, "a fault for all routes is not supported; give it to the routes");
    }
}
