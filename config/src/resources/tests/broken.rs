//! A table of documents that are wrong, and what is said about each: line, field, message, remedy.

use crate::resources::{check_all, parse};

/// (what, text, line, field, part of the message, part of the remedy). The first line of a text is line 1.
type Case = (&'static str, &'static str, u32, &'static str, &'static str, &'static str);

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n";
const WORKLOAD: &str = "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {name: web-1}\nspec:\n";
const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\nspec:\n  \
                     parentRefs: [{group: '', kind: Service, name: web}]\n  rules:\n";
const GRPC: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: web}\nspec:\n  \
                    parentRefs: [{group: '', kind: Service, name: web}]\n  rules:\n";
const POLICY: &str = "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: web}\nspec:\n  \
                      targetRefs: [{kind: Service, name: web}]\n";
const AUTHZ: &str = "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: web}\nspec:\n";
const MESH: &str = "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh}\nspec:\n";

fn prefix(kind: &str) -> &'static str {
    match kind {
        "service" => SERVICE,
        "workload" => WORKLOAD,
        "route" => ROUTE,
        "grpc" => GRPC,
        "policy" => POLICY,
        "authz" => AUTHZ,
        "mesh" => MESH,
        _ => "",
    }
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    // The envelope.
    ("", "kind: Service\nmetadata: {name: a}", 1, "apiVersion", "required", "add `apiVersion:`"),
    ("", "apiVersion: v1\nmetadata: {name: a}", 1, "kind", "required", "add `kind:`"),
    ("", "apiVersion: v1\nkind: Servcie\nmetadata: {name: a}", 2, "kind", "`Servcie`", "did you mean `Service`?"),
    ("", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}", 2, "kind", "not a kind that Weir knows", "one of Mesh"),
    ("", "apiVersion: v2\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}", 1, "apiVersion", "not the apiVersion", "write `v1`"),
    ("", "apiVersion: v1\nkind: Service\nmetadata:\n  name: Web_1\nspec: {ports: [{port: 1}]}", 4, "Service metadata.name", "not a valid name", "lower-case"),
    ("", "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespce: demo\nspec: {ports: [{port: 1}]}", 5, "Service metadata.namespce", "unknown field `namespce`", "did you mean `namespace`?"),
    ("", "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    a b: c\nspec: {ports: [{port: 1}]}", 6, "Service metadata.labels.a b", "not a valid label name", "letters"),
    ("", "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    version: 1.5\nspec: {ports: [{port: 1}]}", 6, "Service metadata.labels.version", "must be text", "quotes"),
    ("", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspecs: {}", 4, "Service default/web specs", "unknown field", "did you mean `spec`?"),
    ("", "- a\n- b\n", 1, "", "must be an object", ""),
    // YAML itself.
    ("", "apiVersion: v1\nkind: [Service\n", 2, "kind[0]", "not YAML", ""),
    ("", "apiVersion: v1\nkind: Service\nkind: Mesh\nmetadata: {name: a}", 3, "", "twice; first in line 2", "remove one"),
    ("", "apiVersion: v1\nkind: Service\nmetadata: &m {name: a, labels: *m}", 3, "metadata.labels", "alias stands inside", "write it out"),
    ("", "apiVersion: v1\nkind: Service\nmetadata: {<<: {name: a}}", 3, "metadata", "merge keys", "write the fields out"),
    ("", "apiVersion: v1\nkind: !foo Service\n", 2, "kind", "no meaning here", "remove the tag"),
    // Service.
    ("service", "  selector: {app: web}", 5, "Service default/web spec.ports", "required", "add `ports:`"),
    ("service", "  ports: []", 5, "Service default/web spec.ports", "at least one port", "add"),
    ("service", "  ports:\n    - port: \"80\"", 6, "Service default/web spec.ports[0].port", "and is text", "remove the quotes"),
    ("service", "  ports:\n    - port: 70000", 6, "Service default/web spec.ports[0].port", "out of range", "1 to 65535"),
    ("service", "  ports:\n    - port: 80\n      appProtocol: gprc", 7, "Service default/web spec.ports[0].appProtocol", "`gprc`", "did you mean `grpc`?"),
    ("service", "  ports:\n    - {port: 80, protocol: UDP}", 6, "Service default/web spec.ports[0].protocol", "only TCP", "TCP"),
    ("service", "  ports:\n    - {port: 80, name: a}\n    - {port: 80, name: b}", 7, "Service default/web spec.ports[1].port", "twice", ""),
    ("service", "  clusterIP: web\n  ports: [{port: 80}]", 5, "Service default/web spec.clusterIP", "`web` is not an IP address", "without a port"),
    ("service", "  clusterIP: 127.0.0.1\n  ports: [{port: 80}]", 5, "Service default/web spec.clusterIP", "nobody reaches", "`None`"),
    ("service", "  clusterIPs:\n    - 10.96.0.7\n    - 10.96.0.7\n  ports: [{port: 80}]", 7, "Service default/web spec.clusterIPs[1]", "twice", "leave one out"),
    ("service", "  clusterIP: 10.96.0.8\n  clusterIPs: [10.96.0.7]\n  ports: [{port: 80}]", 5, "Service default/web spec", "not the first", "leave one"),
    ("mesh", "  outboundTrafficPolicy:\n    mode: AllowAll", 6, "Mesh mesh spec.outboundTrafficPolicy.mode", "`AllowAll`", "did you mean `AllowAny`?"),
    ("service", "  ports:\n    - {port: 80}\n    - {port: 81, name: b}", 6, "Service default/web spec.ports[0]", "needs a name", "add `name:`"),
    ("service", "  type: External\n  ports: [{port: 80}]", 5, "Service default/web spec.type", "`External`", "ExternalName"),
    ("service", "  type: ExternalName\n  ports: [{port: 80}]", 5, "Service default/web spec.externalName", "required", "add `externalName:`"),
    ("service", "  type: ExternalName\n  externalName: ''", 6, "Service default/web spec.externalName", "not the full name of a host", "db.example.com"),
    ("service", "  type: ExternalName\n  externalName: localhost", 6, "Service default/web spec.externalName", "`localhost` is not the full name", "db.example.com"),
    ("service", "  type: ExternalName\n  externalName: DB.example.com", 6, "Service default/web spec.externalName", "not the full name", "lower case"),
    ("service", "  type: ExternalName\n  externalName: 192.0.2.7", 6, "Service default/web spec.externalName", "is an address, and no name", "EndpointSlice"),
    ("service", "  type: ExternalName\n  externalName: 'fd00::7'", 6, "Service default/web spec.externalName", "is an address", "EndpointSlice"),
    ("service", "  ports: [{port: 80}]\n  externalName: a.example.com", 6, "Service default/web spec.externalName", "not supported", "type: ExternalName"),
    ("service", "  ports: [{port: 80}]\n  trafficDistribution: PreferSameRegion", 6, "Service default/web spec.trafficDistribution", "`PreferSameRegion`", "one of PreferSameZone"),
    ("service", "  ports:\n    - {port: 80, targetport: 1}", 6, "Service default/web spec.ports[0].targetport", "unknown field", "did you mean `targetPort`?"),
    // Workload.
    ("workload", "  ports: [{name: http, port: 80}]", 5, "Workload default/web-1 spec.address", "required", "add `address:`"),
    ("workload", "  address: web.example.com", 5, "Workload default/web-1 spec.address", "not an IP address", "not resolved"),
    ("workload", "  command: []", 5, "Workload default/web-1 spec.command", "begins with a program", "[program"),
    ("workload", "  address: 10.0.0.1\n  env: {PORT: 80}", 6, "Workload default/web-1 spec.env.PORT", "must be text", "quotes"),
    ("workload", "  address: 10.0.0.1\n  health: healthy", 6, "Workload default/web-1 spec.health", "`healthy`", "did you mean `Healthy`?"),
    ("workload", "  address: 10.0.0.1\n  weight: 0", 6, "Workload default/web-1 spec.weight", "out of range", "1 to"),
    ("workload", "  address: 10.0.0.1\n  sidecar: {inboundPort: 15080}", 6, "Workload default/web-1 spec.sidecar", "two of the sidecar's ports", "any free port"),
    ("workload", "  address: 10.0.0.1\n  sidecar: {inboundPort: 0}", 6, "Workload default/web-1 spec.sidecar.inboundPort", "out of range", "1 to 65535"),
    ("workload", "  address: 10.0.0.1\n  sidecar: {inbound: 1}", 6, "Workload default/web-1 spec.sidecar.inbound", "unknown field", "inboundPort"),
    // Routes.
    ("route", "    - matches:\n        - path: {type: RegularExpression, value: '/a('}", 8, "HTTPRoute default/web spec.rules[0].matches[0].path.value", "not a valid regular expression", "RE2"),
    ("route", "    - matches:\n        - path: {type: Prefix, value: /a}", 8, "HTTPRoute default/web spec.rules[0].matches[0].path.type", "`Prefix`", "PathPrefix"),
    ("route", "    - matches:\n        - path: {value: a}", 8, "HTTPRoute default/web spec.rules[0].matches[0].path.value", "starts with `/`", "write `/a`"),
    ("route", "    - matches:\n        - path: {value: /a//b}", 8, "HTTPRoute default/web spec.rules[0].matches[0].path.value", "may not have `//`", ""),
    ("route", "    - matches:\n        - method: get", 8, "HTTPRoute default/web spec.rules[0].matches[0].method", "not a method", "did you mean `GET`?"),
    ("route", "    - matches:\n        - headers: [{name: 'a b', value: c}]", 8, "HTTPRoute default/web spec.rules[0].matches[0].headers[0].name", "not a header name", "letters"),
    ("route", "    - backendRefs:\n        - {name: web, port: 80, weight: 0}\n        - {name: web2, port: 80, weight: 0}", 8, "HTTPRoute default/web spec.rules[0].backendRefs", "sum to zero", "above 0"),
    ("route", "    - backendRefs:\n        - {name: web}", 8, "HTTPRoute default/web spec.rules[0].backendRefs[0].port", "required", "add `port:`"),
    ("route", "    - backendRefs:\n        - {name: web, port: 80, kind: Pod}", 8, "HTTPRoute default/web spec.rules[0].backendRefs[0].kind", "is a Service", "kind: Service"),
    ("route", "    - filters:\n        - type: RequestMirror\n          requestMirror: {}", 8, "HTTPRoute default/web spec.rules[0].filters[0].type", "`RequestMirror` is not supported", "small weight"),
    ("route", "    - filters:\n        - type: RequestHeaderModifier\n          requestHeaderModifier:\n            set: [{name: Host, value: a}]", 10, "HTTPRoute default/web spec.rules[0].filters[0].requestHeaderModifier.set[0].name", "`host` may not be changed", "URLRewrite"),
    ("route", "    - filters:\n        - type: ResponseHeaderModifier\n          responseHeaderModifier:\n            remove: [content-length]", 10, "HTTPRoute default/web spec.rules[0].filters[0].responseHeaderModifier.remove[0]", "may not be changed", "frames the message"),
    ("route", "    - filters:\n        - type: RequestHeaderModifier\n          requestHeaderModifier:\n            add: [{name: a, value: \"b\\n\"}]", 10, "HTTPRoute default/web spec.rules[0].filters[0].requestHeaderModifier.add[0].value", "not a header value", "visible ASCII"),
    ("route", "    - filters:\n        - type: URLRewrite\n          urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}\n      matches: [{path: {type: Exact, value: /a}}]", 8, "HTTPRoute default/web spec.rules[0].filters", "needs a matched prefix", "PathPrefix"),
    ("route", "    - filters:\n        - type: RequestRedirect\n          requestRedirect: {statusCode: 304}", 9, "HTTPRoute default/web spec.rules[0].filters[0].requestRedirect.statusCode", "304", "301, 302"),
    ("route", "    - timeouts: {request: 5}", 7, "HTTPRoute default/web spec.rules[0].timeouts.request", "needs a unit", "write `5s`"),
    ("route", "    - timeouts: {request: 1.5s}", 7, "HTTPRoute default/web spec.rules[0].timeouts.request", "not a duration", "write `1s500ms`"),
    ("route", "    - timeouts: {request: 1s, backendRequest: 2s}", 7, "HTTPRoute default/web spec.rules[0].timeouts.backendRequest", "longer than the whole", "lower it"),
    ("route", "    - retry: {codes: [200]}", 7, "HTTPRoute default/web spec.rules[0].retry.codes[0]", "out of range", "400 to 599"),
    ("route", "    - {}\n  hostnames: [a.example.com]", 8, "HTTPRoute default/web spec.hostnames", "not supported", "remove it"),
    ("route", "    - name: a\n    - name: a", 7, "HTTPRoute default/web spec.rules", "two rules", "rename"),
    ("grpc", "    - matches: [{method: {service: a/b}}]", 7, "GRPCRoute default/web spec.rules[0].matches[0].method.service", "not a gRPC name", "no `/`"),
    ("grpc", "    - matches: [{path: {value: /a}}]", 7, "GRPCRoute default/web spec.rules[0].matches[0].path", "unknown field", "method, headers"),
    ("grpc", "    - filters: [{type: URLRewrite}]", 7, "GRPCRoute default/web spec.rules[0].filters[0].type", "no place in a GRPCRoute", "RequestHeaderModifier"),
    // TrafficPolicy.
    ("policy", "  loadBalancing: {algorithm: Random}", 6, "TrafficPolicy default/web spec.loadBalancing.algorithm", "`Random`", "one of PeakEwma"),
    ("policy", "  loadBalancing: {algorithm: RoundRobin, leastRequest: {choices: 3}}", 6, "TrafficPolicy default/web spec.loadBalancing.leastRequest", "not supported", "algorithm: LeastRequest"),
    ("policy", "  retry: {on: [5xxx], attempts: 2}", 6, "TrafficPolicy default/web spec.retry.on[0]", "`5xxx`", "did you mean `5xx`?"),
    ("policy", "  retry: {retryOn: [5xxx], attempts: 2}", 6, "TrafficPolicy default/web spec.retry.retryOn[0]", "`5xxx`", "did you mean `5xx`?"),
    ("policy", "  retry: {retryOn: [5xx], on: [5xx]}", 6, "TrafficPolicy default/web spec.retry.on", "another name", "leave `on` out"),
    ("policy", "  retry: {attempts: 11}", 6, "TrafficPolicy default/web spec.retry.attempts", "out of range", "0 to 10"),
    ("policy", "  retry: {backoff: {base: 1s, max: 100ms}}", 6, "TrafficPolicy default/web spec.retry.backoff.max", "shorter than `base`", "raise it"),
    ("policy", "  retryBudget: {percent: 120}", 6, "TrafficPolicy default/web spec.retryBudget.percent", "out of range", "0 to 100"),
    ("policy", "  retryBudget: {percent: 20%}", 6, "TrafficPolicy default/web spec.retryBudget.percent", "is text", "without `%`"),
    ("policy", "  circuitBreaker:\n    outlierDetection: {consecutive5XX: 3, intervall: 1s}", 7, "TrafficPolicy default/web spec.circuitBreaker.outlierDetection.consecutive5XX", "unknown field", "did you mean `consecutive5xx`?"),
    ("policy", "  circuitBreaker:\n    outlierDetection: {baseEjectionTime: 10s, maxEjectionTime: 1s}", 7, "TrafficPolicy default/web spec.circuitBreaker.outlierDetection.maxEjectionTime", "shorter than the first", "raise it"),
    ("policy", "  fault: {}", 6, "TrafficPolicy default/web spec.fault", "a delay, an abort, or both", "add"),
    ("policy", "  fault: {abort: {httpStatus: 100}}", 6, "TrafficPolicy default/web spec.fault.abort.httpStatus", "out of range", "200 to 599"),
    ("policy", "  fault: {delay: {fixed: 0s}}", 6, "TrafficPolicy default/web spec.fault.delay.fixed", "out of range", "1ms to 1h"),
    ("", "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a}\nspec:\n  targetRefs: [{kind: Workload, name: w}]\n  loadBalancing: {algorithm: RoundRobin}", 6, "TrafficPolicy default/a spec.loadBalancing", "no effect on a Workload", "for the Service"),
    ("", "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a}\nspec:\n  targetRefs: [{kind: Pod, name: w}]", 5, "TrafficPolicy default/a spec.targetRefs[0].kind", "`Pod`", "one of Service"),
    ("", "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a}\nspec:\n  targetRefs: [{kind: HTTPRoute, group: weir.dev, name: w}]", 5, "TrafficPolicy default/a spec.targetRefs[0].group", "not of this group", "gateway.networking.k8s.io"),
    // AuthorizationPolicy.
    ("authz", "  action: ALLOW", 5, "AuthorizationPolicy default/web spec.action", "`ALLOW`", "did you mean `Allow`?"),
    ("authz", "  action: Deny", 5, "AuthorizationPolicy default/web spec", "refuses nothing", "rules: [{}]"),
    ("authz", "  rules: [{from: [{principals: [cluster.local/ns/a/sa/b]}]}]", 5, "AuthorizationPolicy default/web spec.rules[0].from[0].principals[0]", "not an identity", "spiffe://"),
    ("authz", "  rules: [{from: [{source: {principals: []}}]}]", 5, "AuthorizationPolicy default/web spec.rules[0].from[0].source", "not supported", "directly here"),
    ("authz", "  rules: [{from: [{namespaces: [a], serviceAccounts: [b]}]}]", 5, "AuthorizationPolicy default/web spec.rules[0].from[0]", "names one of", "entry of each"),
    ("authz", "  rules: [{from: []}]", 5, "AuthorizationPolicy default/web spec.rules[0].from", "empty", "leave it out"),
    ("authz", "  rules: [{to: [{paths: [admin]}]}]", 5, "AuthorizationPolicy default/web spec.rules[0].to[0].paths[0]", "not a path", "/prefix*"),
    ("authz", "  selector: {matchLabels: {a: b}}\n  targetRefs: [{kind: Service, name: web}]", 5, "AuthorizationPolicy default/web spec.selector", "either", "keep one"),
    // Mesh.
    ("mesh", "  trustDomain: Weir", 5, "Mesh mesh spec.trustDomain", "not a valid trust domain", "weir.local"),
    ("mesh", "  mtls: {mode: STRICT}", 5, "Mesh mesh spec.mtls.mode", "`STRICT`", "did you mean `Strict`?"),
    ("mesh", "  certificate: {lifetime: 1s}", 5, "Mesh mesh spec.certificate.lifetime", "out of range", "5s to"),
    ("mesh", "  defaults: {fault: {}}", 5, "Mesh mesh spec.defaults.fault", "not supported", "TrafficPolicy"),
    ("", "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh, namespace: a}", 3, "Mesh metadata.namespace", "not supported", "remove it"),
    // Lines in later documents.
    ("", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n---\n# nothing\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports:\n    - port: 0\n", 13, "Service default/b spec.ports[0].port", "out of range", "1 to 65535"),
    ("", "a: [\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {port: 1, ports: [{port: 1}]}\n", 6, "Service default/b spec.port", "unknown field", "did you mean `ports`?"),
    ("", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n", 6, "Service default/a", "a second time; first in test.yaml:1", "rename"),
];

/// Two names that lead to each other, and one that leads to something.
const CIRCLE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: ExternalName, externalName: b.prod.svc.cluster.local}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: prod}\nspec: {type: ExternalName, externalName: a.default.svc.cluster.local.}";
const ALIAS: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{kind: Service, name: web}]\n  rules:\n    - backendRefs:\n        - {name: db, port: 80}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {type: ExternalName, externalName: db.example.com, ports: [{port: 80}]}";

/// What each document says is right; what they say about each other is not.
#[rustfmt::skip]
const TOGETHER: &[Case] = &[
    ("no such service", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs:\n    - {kind: Service, name: wbe}\n  rules: [{}]\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}", 6, "HTTPRoute default/r spec.parentRefs[0]", "no Service `wbe` in the namespace `default`", "did you mean `web`?"),
    ("no such port", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs:\n    - {kind: Service, name: web}\n  rules:\n    - backendRefs:\n        - {name: web, port: 8080}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}", 9, "HTTPRoute default/r spec.rules[0].backendRefs[0]", "has no port 8080", "it has 80"),
    ("elsewhere", "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: Service, name: web}]\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec: {ports: [{port: 80}]}", 5, "TrafficPolicy default/p spec.targetRefs[0]", "no Service `web`", "in the namespace `demo`"),
    ("no such workload", "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: Workload, name: web-1}]", 5, "AuthorizationPolicy default/p spec.targetRefs[0]", "no Workload `web-1`", "apply the Workload too"),
    ("two meshes", "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: a}\n---\napiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: b}", 5, "Mesh b", "there is one Mesh", "change `a`"),
    ("one address", "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {name: a}\nspec: {address: 10.0.0.1}\n---\napiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {name: b}\nspec: {command: [b], address: 10.0.0.1, sidecar: {inboundPort: 15006}}", 6, "Workload default/b spec.sidecar.inboundPort", "10.0.0.1:15006 is where Workload/default/a listens too", "its own port"),
    ("a circle", CIRCLE, 1, "Service default/a spec.externalName", "leads back to itself", "a host outside"),
    ("a circle, the other", CIRCLE, 6, "Service prod/b spec.externalName", "leads back to itself", "a host outside"),
    ("an alias", ALIAS, 8, "HTTPRoute default/r spec.rules[0].backendRefs[0]", "another name of `db.example.com`", "ExternalService"),
    ("one cluster address", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {clusterIPs: [10.96.0.7], ports: [{port: 80}]}", 6, "Service default/b spec.clusterIPs", "10.96.0.7 is the address of Service/default/a too", "its own"),
];

#[test]
fn what_is_wrong_is_named_with_its_line_field_and_remedy() {
    let mut failures = vec![];
    for case in CASES {
        let text = format!("{}{}", prefix(case.0), case.1);
        let issues = match parse("test.yaml", &text) {
            Ok(_) => vec![],
            Err(issues) => issues,
        };
        failures.extend(compare(case, &text, &issues));
    }
    for case in TOGETHER {
        let documents = parse("test.yaml", case.1).unwrap();
        failures.extend(compare(case, case.1, &check_all(&documents)));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(CASES.len() + TOGETHER.len() >= 80);
}

fn compare(case: &Case, text: &str, issues: &[crate::resources::Issue]) -> Option<String> {
    let (_, _, line, field, message, remedy) = case;
    let fits = |i: &crate::resources::Issue| {
        i.line == *line
            && i.field == *field
            && i.message.contains(message)
            && i.remedy.as_deref().unwrap_or("").contains(remedy)
            && &*i.file == "test.yaml"
    };
    if issues.iter().any(fits) {
        return None;
    }
    let got: Vec<_> = issues.iter().map(|i| format!("    {i}")).collect();
    Some(format!("-- wanted {line}: {field}: {message} ({remedy})\n{}\n{text}", got.join("\n")))
}

#[test]
fn all_issues_of_a_file_are_reported_at_once() {
    let text = format!("{SERVICE}  selectr: {{}}\n  ports: [{{port: 0}}, {{prt: 1}}]\n---\n{MESH}  mtsl: {{}}\n");
    let issues = parse("f.yaml", &text).unwrap_err();
    let lines: Vec<_> = issues.iter().map(|i| i.line).collect();
    assert_eq!(lines, [5, 6, 6, 6, 12], "{issues:#?}");
    assert_eq!(
        issues[0].to_string(),
        "f.yaml:5: Service default/web spec.selectr: unknown field `selectr` (did you mean `selector`?)"
    );
}
