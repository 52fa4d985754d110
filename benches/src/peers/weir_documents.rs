//! What Weir's control plane is told: two services over one application, and what a variant adds.

use crate::contestant::Kind;
use std::fmt::Write;
use weir_tests::mesh::workload;

/// What one request to the control plane may hold is 4 MiB; these are far smaller.
const AT_ONCE: usize = 1_000;

/// The documents of a contestant's mesh, in as many parts as are sent.
pub(super) fn of(kind: Kind, application: u16, caller: (u16, u16), callee: u16) -> Vec<String> {
    let mut first = format!(
        "{}{}{}{}",
        service("bench-http", 8080, "http"),
        service("bench-grpc", 8081, "grpc"),
        workload("client-1", "client", caller.0, caller.1),
        workload("bench-1", "bench", application, callee),
    );
    let many = |count: usize, one: &dyn Fn(usize) -> String| -> Vec<String> {
        let all: Vec<_> = (1..count).map(one).collect();
        all.chunks(AT_ONCE).map(<[String]>::concat).collect()
    };
    let further = match kind {
        Kind::WeirAll => vec![ALL_POLICIES.to_owned()],
        Kind::WeirNone => vec![NO_POLICIES.to_owned()],
        Kind::WeirServices => many(5_000, &|n| weir_tests::mesh::service(&format!("other-{n}"), 8080, "http")),
        Kind::WeirRoutes => {
            let _ = write!(first, "{}", route(0, "/"));
            many(1_000, &|n| route(n, &format!("/elsewhere/{n}/")))
        }
        Kind::WeirFew => many(3, &|n| endpoint(n, application, callee)),
        Kind::WeirEndpoints => many(1_000, &|n| endpoint(n, application, callee)),
        _ => Vec::new(),
    };
    [first].into_iter().chain(further).collect()
}

/// A Service over the one application.
fn service(name: &str, port: u16, protocol: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: bench}}\n  ports: [{{name: main, port: {port}, targetPort: main, appProtocol: {protocol}}}]\n"
    )
}

/// A route of both services.
fn route(n: usize, prefix: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: bench-{n}}}\nspec:\n  parentRefs: [{{group: \"\", kind: Service, name: bench-http}}]\n  rules:\n    - matches: [{{path: {{type: PathPrefix, value: \"{prefix}\"}}}}]\n      backendRefs: [{{name: bench-http, port: 8080}}]\n"
    )
}

/// The same sidecar at another address of loopback.
fn endpoint(n: usize, application: u16, callee: u16) -> String {
    let address = format!("127.1.{}.{}", n / 250, n % 250 + 1);
    workload(&format!("bench-more-{n}"), "bench", application, callee).replace("127.0.0.1", &address)
}

/// Authorisation by two policies (one of them with a rule per path), retries, budget, timeouts, limits, outlier
/// detection and load balancing by latency on both services; metrics and tracing headers are always on.
const ALL_POLICIES: &str = r#"
---
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: bench}
spec:
  selector: {matchLabels: {app: bench}}
  action: Allow
  rules:
    - from: [{serviceAccounts: [somebody, client]}]
      to: [{methods: [GET, POST, PUT], paths: [/elsewhere, "/small*", "/grpc*", "/*"]}]
---
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-debug}
spec:
  selector: {matchLabels: {app: bench}}
  action: Deny
  rules:
    - to: [{paths: ["/debug*"]}]
---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: bench}
spec:
  targetRefs:
    - {group: "", kind: Service, name: bench-http}
    - {group: "", kind: Service, name: bench-grpc}
  loadBalancing: {algorithm: PeakEwma}
  retry:
    retryOn: [connect-failure, refused-stream, reset, gateway-error, unavailable]
    attempts: 2
    perTryTimeout: 5s
    backoff: {base: 25ms, max: 250ms}
  retryBudget: {percent: 20, interval: 10s, minRetriesPerSecond: 3}
  timeouts: {request: 10s, idle: 1m, connect: 500ms}
  circuitBreaker:
    limits: {maxConnections: 10000, maxPendingRequests: 10000, maxRequests: 10000, maxRetries: 10}
    outlierDetection:
      consecutive5xx: 5
      consecutiveGatewayFailure: 3
      failurePercentage: {threshold: 50, minimumHosts: 2, requestVolume: 20}
"#;

/// Everything that can be switched off, off.
const NO_POLICIES: &str = r#"
---
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: bench}
spec:
  targetRefs:
    - {group: "", kind: Service, name: bench-http}
    - {group: "", kind: Service, name: bench-grpc}
  loadBalancing: {algorithm: RoundRobin}
  retry: {attempts: 0}
  timeouts: {request: 0s, idle: 0s}
  circuitBreaker: {outlierDetection: {consecutive5xx: 0, consecutiveGatewayFailure: 0}}
"#;
