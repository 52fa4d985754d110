//! How a target is called: what a TrafficPolicy, or the Mesh's defaults, may say.

use crate::crd::texts::{
    Algorithm, Attempts, Choices, Connecting, Count, GrpcStatus, HttpStatus, Limit, PerSecond, Percent, RetryOn,
    Seconds, SomeTime, Threshold, UpToADay, UpToAnHour, Volume, WholePercent,
};
use schemars::JsonSchema;

/// What holds where no policy says otherwise.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct DefaultSettings {
    /// Which instance gets a request.
    pub(super) load_balancing: Option<LoadBalancing>,
    /// What is tried again.
    pub(super) retry: Option<Retry>,
    /// How much may be tried again, of all requests.
    pub(super) retry_budget: Option<RetryBudget>,
    /// How long things may take.
    pub(super) timeouts: Option<Timeouts>,
    /// Limits, and which instances are left out for a while.
    pub(super) circuit_breaker: Option<CircuitBreaker>,
    /// Connections that are kept.
    pub(super) connection_pool: Option<ConnectionPool>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.peakEwma) || self.algorithm == 'PeakEwma'",
        "message": "it goes with `algorithm: PeakEwma`",
        "fieldPath": ".peakEwma",
    },
    {
        "rule": "!has(self.leastRequest) || self.algorithm == 'LeastRequest'",
        "message": "it goes with `algorithm: LeastRequest`",
        "fieldPath": ".leastRequest",
    },
]))]
pub(super) struct LoadBalancing {
    /// By the moving average of response times, by open requests, or in turn.
    algorithm: Algorithm,
    /// With `algorithm: PeakEwma`.
    peak_ewma: Option<PeakEwma>,
    /// With `algorithm: LeastRequest`.
    least_request: Option<LeastRequest>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct PeakEwma {
    /// How fast the average forgets.
    decay: Option<SomeTime>,
    /// What is taken of an instance that has not answered yet.
    default_rtt: Option<SomeTime>,
}

#[derive(JsonSchema)]
struct LeastRequest {
    /// Of how many chosen at random the one with fewest requests is taken; 2 unless written.
    choices: Option<Choices>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.on) || !has(self.retryOn)",
        "message": "it is another name of `retryOn`, which is there too",
        "fieldPath": ".on",
    },
]))]
pub(super) struct Retry {
    /// Which failures.
    #[schemars(length(max = 1000))]
    retry_on: Option<Vec<RetryOn>>,
    /// Another name of `retryOn`. Without quotes, `kubectl` reads it as `true`.
    #[schemars(length(max = 1000))]
    on: Option<Vec<RetryOn>>,
    /// Which statuses.
    #[schemars(length(max = 1000))]
    status_codes: Option<Vec<HttpStatus>>,
    /// How often; 1 unless written, 0: never.
    attempts: Option<Attempts>,
    /// How long one try may take.
    per_try_timeout: Option<UpToAnHour>,
    /// How long is waited before the next try.
    backoff: Option<Backoff>,
}

#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.base) || !has(self.max) || duration(self.base) <= duration(self.max)",
        "message": "`max` is shorter than `base`",
        "fieldPath": ".max",
    },
]))]
struct Backoff {
    /// Before the first.
    base: Option<UpToAnHour>,
    /// The longest.
    max: Option<UpToAnHour>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct RetryBudget {
    /// So many percent of the requests of the interval.
    percent: Option<Percent>,
    /// The interval.
    interval: Option<Seconds>,
    /// So many in any case.
    min_retries_per_second: Option<PerSecond>,
}

#[derive(JsonSchema)]
pub(super) struct Timeouts {
    /// Of a whole request; `0s`: none.
    request: Option<UpToADay>,
    /// Without a byte in either direction, a day unless written; `0s`: none.
    idle: Option<UpToADay>,
    /// Of connecting.
    connect: Option<Connecting>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct CircuitBreaker {
    /// Of each sidecar that calls.
    limits: Option<Limits>,
    /// Which instances are left out for a while.
    outlier_detection: Option<OutlierDetection>,
    /// Below so many percent of healthy instances all are called; 0: never.
    panic_threshold_percent: Option<WholePercent>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Limits {
    /// Connections.
    max_connections: Option<Limit>,
    /// Requests that wait for one.
    max_pending_requests: Option<Limit>,
    /// Requests under way.
    max_requests: Option<Limit>,
    /// Of them, those that are tried again.
    max_retries: Option<Limit>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.baseEjectionTime) || !has(self.maxEjectionTime) \
                 || duration(self.baseEjectionTime) <= duration(self.maxEjectionTime)",
        "message": "the longest ejection is shorter than the first",
        "fieldPath": ".maxEjectionTime",
    },
]))]
struct OutlierDetection {
    /// After so many 5xx in a row; 0: not for them.
    #[schemars(rename = "consecutive5xx")]
    consecutive_5xx: Option<Count>,
    /// After so many 502, 503, 504 or lost connections in a row; 0: not for them.
    consecutive_gateway_failure: Option<Count>,
    /// How often shares of failures are looked at.
    interval: Option<SomeTime>,
    /// For how long at first.
    base_ejection_time: Option<SomeTime>,
    /// For how long at most.
    max_ejection_time: Option<SomeTime>,
    /// How many percent of the instances at most.
    max_ejection_percent: Option<WholePercent>,
    /// For a share of failures.
    failure_percentage: Option<FailurePercentage>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct FailurePercentage {
    /// From so many percent on; 85 unless written.
    threshold: Option<Threshold>,
    /// With at least so many instances; 5 unless written.
    minimum_hosts: Option<Count>,
    /// With at least so many requests in an interval; 50 unless written.
    request_volume: Option<Volume>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ConnectionPool {
    /// Closed after so long without use; `0s`: never.
    idle_timeout: Option<UpToADay>,
    /// Closed when so old; `0s`: never.
    max_connection_age: Option<UpToADay>,
}

/// A fault on purpose.
#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.delay) || has(self.abort)", "message": "a fault is a delay, an abort, or both" },
]))]
pub(super) struct Fault {
    /// Requests wait first.
    delay: Option<Delay>,
    /// Requests are answered at once.
    abort: Option<Abort>,
}

#[derive(JsonSchema)]
struct Delay {
    /// So long.
    fixed: UpToAnHour,
    /// Of the requests; 100 unless written.
    percent: Option<Percent>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.httpStatus) || has(self.grpcStatus)", "message": "an abort needs `httpStatus` or `grpcStatus`" },
]))]
struct Abort {
    /// With this status of HTTP.
    http_status: Option<HttpStatus>,
    /// With this code of gRPC.
    grpc_status: Option<GrpcStatus>,
    /// Of the requests; 100 unless written.
    percent: Option<Percent>,
}
