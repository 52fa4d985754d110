//! Circuit breaking ⇄ Envoy's `circuit_breakers` (limits, retry budget; gRFC A32) and `outlier_detection` (gRFC A50).

use super::wire::{At, Report, boolean, duration, ignored, number, pb, read_percent, read_positive, unsupported};
use crate::model::{ConnectionLimits, FailurePercentage, Fraction, OutlierDetection, RetryBudget};
use envoy_types::pb::google::protobuf::UInt32Value;
use pb::cluster::{CircuitBreakers, OutlierDetection as Pb, circuit_breakers::Thresholds};
use std::time::Duration;

/// Envoy's limits where none is given; it has no way to say "none" but the largest number.
const DEFAULT_LIMIT: u32 = 1024;
const DEFAULT_RETRIES: u32 = 3;

/// Limits and retry budget.
pub(super) fn limits(limits: &ConnectionLimits, budget: &RetryBudget) -> CircuitBreakers {
    let limit = |l: Option<u32>| number(l.unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        max_connections: limit(limits.max_connections),
        max_pending_requests: limit(limits.max_pending_requests),
        max_requests: limit(limits.max_requests),
        max_retries: limit(limits.max_retries),
        retry_budget: Some(pb::cluster::circuit_breakers::thresholds::RetryBudget {
            budget_percent: Some(pb::ty::Percent { value: f64::from(budget.share.millionths()) / 10_000.0 }),
            budget_interval: Some(duration(budget.interval)),
            min_retry_concurrency: number(budget.min_retries_per_second),
        }),
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], per_host_thresholds: vec![] }
}

/// Reads limits and retry budget.
pub(super) fn read_limits(
    out: &mut Report,
    at: &At<'_>,
    sent: Option<CircuitBreakers>,
) -> (ConnectionLimits, RetryBudget) {
    let CircuitBreakers { thresholds, per_host_thresholds } = sent.unwrap_or_default();
    unsupported!(out, at; per_host_thresholds);
    // Nothing here has another priority than the default one.
    let first = thresholds.into_iter().enumerate().find(|(_, t)| t.priority == 0);
    let (i, thresholds) = first.unwrap_or_default();
    let at = at.item("thresholds", i);
    let Thresholds {
        priority: _,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining: _,
        max_connection_pools,
    } = thresholds;
    ignored!(out, &at; max_connection_pools);
    let limit = |sent: Option<UInt32Value>, default| {
        let n = sent.map_or(default, |n| n.value);
        (n != u32::MAX).then_some(n)
    };
    // With a budget, Envoy does not look at `max_retries`'s default.
    let retries = if retry_budget.is_some() { u32::MAX } else { DEFAULT_RETRIES };
    let limits = ConnectionLimits {
        max_connections: limit(max_connections, DEFAULT_LIMIT),
        max_pending_requests: limit(max_pending_requests, DEFAULT_LIMIT),
        max_requests: limit(max_requests, DEFAULT_LIMIT),
        max_retries: limit(max_retries, retries),
    };
    (limits, retry_budget.map_or(RetryBudget::default(), |b| read_budget(out, &at.field("retry_budget"), b)))
}

fn read_budget(
    out: &mut Report,
    at: &At<'_>,
    sent: pb::cluster::circuit_breakers::thresholds::RetryBudget,
) -> RetryBudget {
    let pb::cluster::circuit_breakers::thresholds::RetryBudget {
        budget_percent,
        budget_interval,
        min_retry_concurrency,
    } = sent;
    let default = RetryBudget::default();
    let share = budget_percent.map_or(Some(default.share), |p| Fraction::from_percent(p.value));
    if share.is_none() {
        out.refuse(&at.field("budget_percent"), "is not between 0 and 100");
    }
    let interval = read_positive(out, at, "budget_interval", budget_interval).unwrap_or(default.interval);
    RetryBudget {
        share: share.unwrap_or(default.share),
        interval: interval.clamp(Duration::from_secs(1), Duration::from_secs(3600)),
        min_retries_per_second: min_retry_concurrency.map_or(default.min_retries_per_second, |n| n.value),
    }
}

/// Ejection. What Envoy would do by default and the model does not is switched off by name.
pub(super) fn outlier(o: &OutlierDetection) -> Pb {
    let enforce = |on: bool| number(if on { 100 } else { 0 });
    let share = o.failure_percentage;
    Pb {
        consecutive_5xx: o.consecutive_5xx.and_then(number),
        enforcing_consecutive_5xx: enforce(o.consecutive_5xx.is_some()),
        consecutive_gateway_failure: o.consecutive_gateway_failure.and_then(number),
        enforcing_consecutive_gateway_failure: enforce(o.consecutive_gateway_failure.is_some()),
        enforcing_success_rate: enforce(false),
        failure_percentage_threshold: share.and_then(|f| number(f.threshold.into())),
        failure_percentage_minimum_hosts: share.and_then(|f| number(f.minimum_hosts)),
        failure_percentage_request_volume: share.and_then(|f| number(f.request_volume)),
        enforcing_failure_percentage: enforce(share.is_some()),
        interval: Some(duration(o.interval)),
        base_ejection_time: Some(duration(o.base_ejection_time)),
        max_ejection_time: Some(duration(o.max_ejection_time)),
        max_ejection_percent: number(o.max_ejection_percent.into()),
        always_eject_one_host: boolean(true),
        ..Default::default()
    }
}

/// Reads ejection, with Envoy's defaults.
pub(super) fn read_outlier(out: &mut Report, at: &At<'_>, sent: Pb) -> OutlierDetection {
    let Pb {
        consecutive_5xx,
        interval,
        base_ejection_time,
        max_ejection_percent,
        enforcing_consecutive_5xx,
        enforcing_success_rate,
        success_rate_minimum_hosts,
        success_rate_request_volume,
        success_rate_stdev_factor,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors,
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure: _,
        enforcing_local_origin_success_rate: _,
        failure_percentage_threshold,
        enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin: _,
        failure_percentage_minimum_hosts,
        failure_percentage_request_volume,
        max_ejection_time,
        max_ejection_time_jitter,
        successful_active_health_check_uneject_host,
        monitors,
        always_eject_one_host: _,
        detect_degraded_hosts,
    } = sent;
    unsupported!(out, at; split_external_local_origin_errors, monitors);
    ignored!(out, at; success_rate_minimum_hosts, success_rate_request_volume, success_rate_stdev_factor,
        consecutive_local_origin_failure, max_ejection_time_jitter, successful_active_health_check_uneject_host,
        detect_degraded_hosts);
    if enforcing_success_rate.is_none_or(|e| e.value > 0) {
        out.note(&at.field("enforcing_success_rate"), "ejection by success rate is not supported");
    }
    let value = |sent: Option<UInt32Value>, default: u32| sent.map_or(default, |n| n.value);
    let enforced = |sent: Option<UInt32Value>, default: u32| value(sent, default) > 0;
    let base = read_positive(out, at, "base_ejection_time", base_ejection_time).unwrap_or(Duration::from_secs(30));
    let longest = read_positive(out, at, "max_ejection_time", max_ejection_time).unwrap_or(Duration::from_secs(300));
    let percent = |out: &mut Report, field, sent, default| {
        read_percent(out, &at.field(field), pb::ty::Percent { value: value(sent, default).into() })
    };
    let threshold = percent(out, "failure_percentage_threshold", failure_percentage_threshold, 85);
    let share = threshold.map(|t| FailurePercentage {
        threshold: t.max(1),
        minimum_hosts: value(failure_percentage_minimum_hosts, 5),
        request_volume: value(failure_percentage_request_volume, 50),
    });
    OutlierDetection {
        consecutive_5xx: enforced(enforcing_consecutive_5xx, 100).then(|| value(consecutive_5xx, 5).max(1)),
        consecutive_gateway_failure: enforced(enforcing_consecutive_gateway_failure, 0)
            .then(|| value(consecutive_gateway_failure, 5).max(1)),
        interval: read_positive(out, at, "interval", interval).unwrap_or(Duration::from_secs(10)),
        base_ejection_time: base,
        max_ejection_time: longest.max(base),
        max_ejection_percent: percent(out, "max_ejection_percent", max_ejection_percent, 10).unwrap_or(10),
        failure_percentage: share.filter(|_| enforced(enforcing_failure_percentage, 0)),
    }
}
