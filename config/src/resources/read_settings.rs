//! Reads what a TrafficPolicy, or the Mesh's defaults, say about how a target is called.

use super::{
    Settings, Switch,
    node::Node,
    read::{Fields, Reader},
    read_fault::fault,
    read_retry, settings,
};
use crate::model::{ConnectionLimits, FailurePercentage, LoadBalancing, OutlierDetection, RetryBudget};
use std::time::Duration;

/// For whom settings are read: what they may say differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All services.
    Mesh,
    /// A policy with its targets.
    Policy,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const MILLI: Duration = Duration::from_millis(1);

/// Reads the settings among the fields of an object.
pub(super) fn settings(r: &mut Reader, f: &mut Fields<'_>, scope: Scope) -> Settings {
    let mut s = Settings {
        load_balancing: f.optional(r, "loadBalancing", load_balancing),
        retry: f.optional(r, "retry", read_retry::policy),
        retry_budget: f.optional(r, "retryBudget", budget),
        ..Settings::default()
    };
    f.optional(r, "timeouts", |r, n| timeouts(r, n, &mut s));
    f.optional(r, "circuitBreaker", |r, n| circuit_breaker(r, n, &mut s));
    f.optional(r, "connectionPool", |r, n| pool(r, n, &mut s));
    match scope {
        Scope::Policy => s.fault = f.optional(r, "fault", fault),
        Scope::Mesh => f.unsupported(r, "fault", "put it into a TrafficPolicy, which names its targets"),
    }
    s
}

fn load_balancing(r: &mut Reader, node: &Node) -> Option<LoadBalancing> {
    #[derive(Clone, Copy, PartialEq)]
    enum Algorithm {
        PeakEwma,
        LeastRequest,
        RoundRobin,
    }
    let words = [
        ("PeakEwma", Algorithm::PeakEwma),
        ("LeastRequest", Algorithm::LeastRequest),
        ("RoundRobin", Algorithm::RoundRobin),
    ];
    let mut f = r.fields(node)?;
    let algorithm = f.required(r, "algorithm", |r, n| r.word(n, &words))?;
    let LoadBalancing::PeakEwma { mut decay, mut default_rtt } = LoadBalancing::default() else { return None };
    let mut choices = 2;
    if algorithm == Algorithm::PeakEwma {
        f.optional(r, "peakEwma", |r, n| {
            let mut f = r.fields(n)?;
            decay = f.optional(r, "decay", |r, n| r.duration_in(n, MILLI, DAY)).unwrap_or(decay);
            default_rtt = f.optional(r, "defaultRtt", |r, n| r.duration_in(n, MILLI, DAY)).unwrap_or(default_rtt);
            f.close(r);
            Some(())
        });
    } else {
        f.unsupported(r, "peakEwma", "it goes with `algorithm: PeakEwma`");
    }
    if algorithm == Algorithm::LeastRequest {
        f.optional(r, "leastRequest", |r, n| {
            let mut f = r.fields(n)?;
            choices = f.optional(r, "choices", |r, n| r.small(n, 2, 10)).unwrap_or(choices);
            f.close(r);
            Some(())
        });
    } else {
        f.unsupported(r, "leastRequest", "it goes with `algorithm: LeastRequest`");
    }
    f.close(r);
    Some(match algorithm {
        Algorithm::PeakEwma => LoadBalancing::PeakEwma { decay, default_rtt },
        Algorithm::LeastRequest => LoadBalancing::LeastRequest { choices },
        Algorithm::RoundRobin => LoadBalancing::RoundRobin,
    })
}

fn budget(r: &mut Reader, node: &Node) -> Option<RetryBudget> {
    let usual = RetryBudget::default();
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(3600));
    let mut f = r.fields(node)?;
    let budget = RetryBudget {
        share: f.optional(r, "percent", Reader::share).unwrap_or(usual.share),
        interval: f.optional(r, "interval", |r, n| r.duration_in(n, min, max)).unwrap_or(usual.interval),
        min_retries_per_second: f
            .optional(r, "minRetriesPerSecond", |r, n| r.small(n, 0, 1_000_000))
            .unwrap_or(usual.min_retries_per_second),
    };
    f.close(r);
    Some(budget)
}

fn timeouts(r: &mut Reader, node: &Node, s: &mut Settings) -> Option<()> {
    let mut f = r.fields(node)?;
    s.request_timeout = f.optional(r, "request", Reader::limit);
    s.idle_timeout = f.optional(r, "idle", Reader::limit);
    s.connect_timeout = f.optional(r, "connect", |r, n| r.duration_in(n, MILLI, Duration::from_secs(300)));
    f.close(r);
    Some(())
}

fn circuit_breaker(r: &mut Reader, node: &Node, s: &mut Settings) -> Option<()> {
    let mut f = r.fields(node)?;
    s.limits = f.optional(r, "limits", limits).unwrap_or_default();
    s.outlier = f.optional(r, "outlierDetection", outlier);
    s.panic_threshold_percent = f.optional(r, "panicThresholdPercent", percent);
    f.close(r);
    Some(())
}

fn limits(r: &mut Reader, node: &Node) -> Option<ConnectionLimits> {
    let mut f = r.fields(node)?;
    let mut limit = |name| f.optional(r, name, |r, n| r.small(n, 0, u32::MAX));
    let limits = ConnectionLimits {
        max_connections: limit("maxConnections"),
        max_pending_requests: limit("maxPendingRequests"),
        max_requests: limit("maxRequests"),
        max_retries: limit("maxRetries"),
    };
    f.close(r);
    Some(limits)
}

fn percent(r: &mut Reader, node: &Node) -> Option<u8> {
    r.small(node, 0, 100).and_then(|n| u8::try_from(n).ok())
}

fn outlier(r: &mut Reader, node: &Node) -> Option<Switch<OutlierDetection>> {
    let usual = settings::default_outlier();
    let mut f = r.fields(node)?;
    let count = |r: &mut Reader, n: &Node| r.small(n, 0, 10_000);
    let time = |r: &mut Reader, n: &Node| r.duration_in(n, MILLI, DAY);
    // 0 switches one way of ejection off.
    let on = |n: u32| (n > 0).then_some(n);
    let base = f.optional(r, "baseEjectionTime", time);
    let max = f.optional(r, "maxEjectionTime", time);
    let base_ejection_time = base.unwrap_or(usual.base_ejection_time.min(max.unwrap_or(Duration::MAX)));
    let outlier = OutlierDetection {
        consecutive_5xx: f.optional(r, "consecutive5xx", count).map_or(usual.consecutive_5xx, on),
        consecutive_gateway_failure: f.optional(r, "consecutiveGatewayFailure", count).and_then(on),
        interval: f.optional(r, "interval", time).unwrap_or(usual.interval),
        base_ejection_time,
        max_ejection_time: max.unwrap_or(usual.max_ejection_time.max(base_ejection_time)),
        max_ejection_percent: f.optional(r, "maxEjectionPercent", percent).unwrap_or(usual.max_ejection_percent),
        failure_percentage: f.optional(r, "failurePercentage", failure_percentage),
    };
    if outlier.max_ejection_time < outlier.base_ejection_time {
        let at = f.find("maxEjectionTime").unwrap_or(node);
        let remedy = Some("raise it, or lower `baseEjectionTime`".into());
        r.within("maxEjectionTime", |r| r.issue(at, "the longest ejection is shorter than the first", remedy));
    }
    f.close(r);
    let ways = outlier.consecutive_5xx.is_some()
        || outlier.consecutive_gateway_failure.is_some()
        || outlier.failure_percentage.is_some();
    Some(if ways { Switch::On(outlier) } else { Switch::Off })
}

fn failure_percentage(r: &mut Reader, node: &Node) -> Option<FailurePercentage> {
    let mut f = r.fields(node)?;
    let threshold = f.optional(r, "threshold", |r, n| r.small(n, 1, 100).and_then(|n| u8::try_from(n).ok()));
    let found = FailurePercentage {
        threshold: threshold.unwrap_or(85),
        minimum_hosts: f.optional(r, "minimumHosts", |r, n| r.small(n, 0, 10_000)).unwrap_or(5),
        request_volume: f.optional(r, "requestVolume", |r, n| r.small(n, 0, 1_000_000_000)).unwrap_or(50),
    };
    f.close(r);
    Some(found)
}

fn pool(r: &mut Reader, node: &Node, s: &mut Settings) -> Option<()> {
    let mut f = r.fields(node)?;
    s.pool_idle_timeout = f.optional(r, "idleTimeout", Reader::limit);
    s.max_connection_age = f.optional(r, "maxConnectionAge", Reader::limit);
    f.close(r);
    Some(())
}
