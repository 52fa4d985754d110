//! Our kinds in the API server: what the documentation shows is taken, what is wrong is refused with its field.

use serde_json::Value;
use std::{fs, path::Path};
use weir_config::resources::{Kind, parse};
use weir_tests::cluster::{Cluster, oldest};

/// The documents of our kinds in the examples, in the documentation and in the demo, each with a name of its own.
fn examples() -> Vec<Value> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut texts = Vec::new();
    for file in fs::read_dir(root.join("config/examples")).expect("examples").flatten() {
        texts.push(fs::read_to_string(file.path()).expect("a file"));
    }
    texts.push(fs::read_to_string(root.join("demo-services/mesh/policies.yaml")).expect("the demo's policies"));
    let pages = fs::read_dir(root.join("docs")).expect("docs").flatten().map(|e| e.path());
    for page in pages.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).unwrap_or_default();
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        texts.extend(blocks.map(ToOwned::to_owned));
    }
    let documents = texts.iter().flat_map(|text| parse("example", text).expect("valid"));
    let ours = documents.filter(|d| d.kind().group() == "weir.dev").map(|d| d.to_json());
    ours.enumerate()
        .map(|(n, mut document)| {
            document["metadata"]["name"] = format!("example-{n}").into();
            if document["metadata"]["namespace"].is_string() {
                document["metadata"]["namespace"] = "default".into();
            }
            document
        })
        .collect()
}

/// Kind, `spec`, the field that is named in the refusal, and a part of what is said.
#[rustfmt::skip]
const BROKEN: &[(&str, &str, &str, &str)] = &[
    // Workload.
    ("Workload", "{}", "spec.address", "says where it is"),
    ("Workload", "{address: web.example.com}", "spec.address", "IP address"),
    ("Workload", "{address: '10.0.0.1:80'}", "spec.address", "IP address"),
    ("Workload", "{address: 10.0.0.1, adress: 10.0.0.2}", "spec.adress", "unknown field"),
    ("Workload", "{address: 10.0.0.1, ports: [{port: 80}]}", "spec.ports[0].name", "Required"),
    ("Workload", "{address: 10.0.0.1, ports: [{name: a, port: 0}]}", "spec.ports[0].port", "1"),
    ("Workload", "{address: 10.0.0.1, ports: [{name: a, port: 65536}]}", "spec.ports[0].port", "65535"),
    ("Workload", "{address: 10.0.0.1, ports: [{name: A, port: 80}]}", "spec.ports[0].name", "should match"),
    ("Workload", "{address: 10.0.0.1, ports: [{name: a, port: 80}, {name: a, port: 81}]}", "spec.ports[1]", "Duplicate"),
    ("Workload", "{address: 10.0.0.1, ports: [{name: a, port: 80}, {name: b, port: 80}]}", "spec.ports", "stands here twice"),
    ("Workload", "{address: 10.0.0.1, ports: [{name: a, port: 80, appProtocol: htp}]}", "spec.ports[0].appProtocol", "supported values"),
    ("Workload", "{address: 10.0.0.1, ports: [{name: a, port: '80'}]}", "spec.ports[0].port", "integer"),
    ("Workload", "{address: 10.0.0.1, health: healthy}", "spec.health", "supported values"),
    ("Workload", "{address: 10.0.0.1, weight: 0}", "spec.weight", "1"),
    ("Workload", "{address: 10.0.0.1, command: []}", "spec.command", "at least 1"),
    ("Workload", "{address: 10.0.0.1, env: {PORT: 80}}", "spec.env.PORT", "string"),
    ("Workload", "{address: 10.0.0.1, zone: ''}", "spec.zone", "at least 1"),
    ("Workload", "{address: 10.0.0.1, serviceAccount: 'Web!'}", "spec.serviceAccount", "should match"),
    ("Workload", "{address: 10.0.0.1, sidecar: {inboundPort: 0}}", "spec.sidecar.inboundPort", "must know the port"),
    ("Workload", "{address: 10.0.0.1, sidecar: {inboundPort: 15080}}", "spec.sidecar", "are the same"),
    ("Workload", "{address: 10.0.0.1, sidecar: {adminPort: 7, metricsPort: 7}}", "spec.sidecar", "are the same"),
    // ExternalService.
    ("ExternalService", "{ports: [{port: 443, protocol: TLS}]}", "spec.hosts", "Required"),
    ("ExternalService", "{hosts: [a.example], ports: []}", "spec.ports", "at least 1"),
    ("ExternalService", "{hosts: [intern], ports: [{port: 443, protocol: TLS}]}", "spec.hosts[0]", "should match"),
    ("ExternalService", "{hosts: [192.0.2.1], ports: [{port: 443, protocol: TLS}]}", "spec.hosts[0]", "addresses"),
    ("ExternalService", "{hosts: [a.example, a.example], ports: [{port: 443, protocol: TLS}]}", "spec.hosts[1]", "Duplicate"),
    ("ExternalService", "{hosts: [a.example], ports: [{port: 443, protocol: TLS}, {port: 443, protocol: TCP}]}", "spec.ports[1]", "Duplicate"),
    ("ExternalService", "{hosts: [a.example], ports: [{port: 443, protocol: UDP}]}", "spec.ports[0].protocol", "supported values"),
    ("ExternalService", "{hosts: ['*.a.example'], ports: [{port: 5432, protocol: TCP}]}", "spec.ports", "cannot be told apart"),
    ("ExternalService", "{hosts: [a.example], ports: [{port: 443, protocol: TLS}], addresses: [127.0.0.1]}", "spec.addresses[0]", "host outside"),
    ("ExternalService", "{hosts: [a.example], ports: [{port: 443, protocol: TLS}], resolution: DNS}", "spec.resolution", "unknown field"),
    // TrafficPolicy.
    ("TrafficPolicy", "{}", "spec.targetRefs", "Required"),
    ("TrafficPolicy", "{targetRefs: []}", "spec.targetRefs", "at least 1"),
    ("TrafficPolicy", "{targetRefs: [{kind: Pod, name: a}]}", "spec.targetRefs[0].kind", "supported values"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}, {kind: Service, name: a}]}", "spec.targetRefs[1]", "Duplicate"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a, namespace: b}]}", "spec.targetRefs[0].namespace", "unknown field"),
    ("TrafficPolicy", "{targetRefs: [{kind: HTTPRoute, group: weir.dev, name: a}]}", "spec.targetRefs[0].group", "not of this group"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: A_b}]}", "spec.targetRefs[0].name", "should match"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], loadBalancing: {}}", "spec.loadBalancing.algorithm", "Required"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], loadBalancing: {algorithm: Random}}", "spec.loadBalancing.algorithm", "supported values"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], loadBalancing: {algorithm: RoundRobin, leastRequest: {choices: 3}}}", "spec.loadBalancing.leastRequest", "goes with"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], loadBalancing: {algorithm: LeastRequest, peakEwma: {}}}", "spec.loadBalancing.peakEwma", "goes with"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], loadBalancing: {algorithm: LeastRequest, leastRequest: {choices: 1}}}", "spec.loadBalancing.leastRequest.choices", "2"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retry: {retryOn: [5xxx]}}", "spec.retry.retryOn[0]", "supported values"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retry: {'on': [5xxx]}}", "spec.retry.on[0]", "supported values"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retry: {'on': [5xx], retryOn: [5xx]}}", "spec.retry.on", "another name"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retry: {attempts: 11}}", "spec.retry.attempts", "10"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retry: {statusCodes: [199]}}", "spec.retry.statusCodes[0]", "200"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retry: {perTryTimeout: 0s}}", "spec.retry.perTryTimeout", "1ms to 1h"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retry: {backoff: {base: 1s, max: 100ms}}}", "spec.retry.backoff.max", "shorter than `base`"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retryBudget: {percent: 120}}", "spec.retryBudget.percent", "100"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retryBudget: {percent: '20%'}}", "spec.retryBudget.percent", "number"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], retryBudget: {interval: 10ms}}", "spec.retryBudget.interval", "1s to 1h"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], timeouts: {request: 5}}", "spec.timeouts.request", "string"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], timeouts: {request: 1.5s}}", "spec.timeouts.request", "should match"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], timeouts: {idle: 25h}}", "spec.timeouts.idle", "0s to 24h"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], timeouts: {connect: 0s}}", "spec.timeouts.connect", "1ms to 5m"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], circuitBreaker: {limits: {maxRequests: -1}}}", "spec.circuitBreaker.limits.maxRequests", "0"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], circuitBreaker: {panicThresholdPercent: 101}}", "spec.circuitBreaker.panicThresholdPercent", "100"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], circuitBreaker: {outlierDetection: {consecutive5XX: 3}}}", "spec.circuitBreaker.outlierDetection.consecutive5XX", "unknown field"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], circuitBreaker: {outlierDetection: {baseEjectionTime: 10s, maxEjectionTime: 1s}}}", "spec.circuitBreaker.outlierDetection.maxEjectionTime", "shorter than the first"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], circuitBreaker: {outlierDetection: {failurePercentage: {threshold: 0}}}}", "spec.circuitBreaker.outlierDetection.failurePercentage.threshold", "1"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], connectionPool: {idleTimeout: 1d}}", "spec.connectionPool.idleTimeout", "should match"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], fault: {}}", "spec.fault", "a delay, an abort, or both"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], fault: {delay: {}}}", "spec.fault.delay.fixed", "Required"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], fault: {delay: {fixed: 0s}}}", "spec.fault.delay.fixed", "1ms to 1h"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], fault: {abort: {percent: 5}}}", "spec.fault.abort", "needs"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], fault: {abort: {httpStatus: 100}}}", "spec.fault.abort.httpStatus", "200"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], fault: {abort: {grpcStatus: 17}}}", "spec.fault.abort.grpcStatus", "gRPC code"),
    ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], fault: {abort: {grpcStatus: SICK}}}", "spec.fault.abort.grpcStatus", "gRPC code"),
    ("TrafficPolicy", "{targetRefs: [{kind: Workload, name: a}], loadBalancing: {algorithm: RoundRobin}}", "spec.loadBalancing", "for the Service"),
    ("TrafficPolicy", "{targetRefs: [{kind: HTTPRoute, name: a}], timeouts: {connect: 1s}}", "spec.timeouts.connect", "for the Service"),
    ("TrafficPolicy", "{targetRefs: [{kind: HTTPRoute, name: a}], connectionPool: {idleTimeout: 1s}}", "spec.connectionPool", "for the Service"),
    ("TrafficPolicy", "{targetRefs: [{kind: Workload, name: a}], retry: {attempts: 1}}", "spec.retry", "for the Service"),
    // AuthorizationPolicy.
    ("AuthorizationPolicy", "{action: ALLOW}", "spec.action", "supported values"),
    ("AuthorizationPolicy", "{action: Deny}", "spec.rules", "refuses nothing"),
    ("AuthorizationPolicy", "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}]}", "spec.selector", "either"),
    ("AuthorizationPolicy", "{selector: {}}", "spec.selector.matchLabels", "Required"),
    ("AuthorizationPolicy", "{targetRefs: [{kind: HTTPRoute, name: a}]}", "spec.targetRefs[0].kind", "supported values"),
    ("AuthorizationPolicy", "{targetRefs: []}", "spec.targetRefs", "at least 1"),
    ("AuthorizationPolicy", "{rules: [{from: []}]}", "spec.rules[0].from", "at least 1"),
    ("AuthorizationPolicy", "{rules: [{from: [{}]}]}", "spec.rules[0].from[0]", "names one of"),
    ("AuthorizationPolicy", "{rules: [{from: [{namespaces: [a], serviceAccounts: [b]}]}]}", "spec.rules[0].from[0]", "names one of"),
    ("AuthorizationPolicy", "{rules: [{from: [{source: {principals: []}}]}]}", "spec.rules[0].from[0].source", "unknown field"),
    ("AuthorizationPolicy", "{rules: [{from: [{principals: [cluster.local/ns/a/sa/b]}]}]}", "spec.rules[0].from[0].principals[0]", "should match"),
    ("AuthorizationPolicy", "{rules: [{from: [{serviceAccounts: [a/b/c]}]}]}", "spec.rules[0].from[0].serviceAccounts[0]", "should match"),
    ("AuthorizationPolicy", "{rules: [{to: [{}]}]}", "spec.rules[0].to[0]", "names nothing"),
    ("AuthorizationPolicy", "{rules: [{to: [{methods: [get]}]}]}", "spec.rules[0].to[0].methods[0]", "supported values"),
    ("AuthorizationPolicy", "{rules: [{to: [{paths: [admin]}]}]}", "spec.rules[0].to[0].paths[0]", "should match"),
    ("AuthorizationPolicy", "{rules: [{to: [{paths: ['/a*b']}]}]}", "spec.rules[0].to[0].paths[0]", "should match"),
    ("AuthorizationPolicy", "{rules: [{when: []}]}", "spec.rules[0].when", "unknown field"),
    // Mesh.
    ("Mesh", "{trustDomain: Weir}", "spec.trustDomain", "should match"),
    ("Mesh", "{mtls: {mode: STRICT}}", "spec.mtls.mode", "supported values"),
    ("Mesh", "{outboundTrafficPolicy: {mode: Open}}", "spec.outboundTrafficPolicy.mode", "supported values"),
    ("Mesh", "{certificate: {lifetime: 1s}}", "spec.certificate.lifetime", "5s to 720h"),
    ("Mesh", "{defaults: {fault: {}}}", "spec.defaults.fault", "unknown field"),
    ("Mesh", "{clusterDomain: cluster..local}", "spec.clusterDomain", "should match"),
];

async fn the_api_server_knows_our_kinds(cluster: &Cluster) {
    cluster.install_kinds().await;
    let examples = examples();
    assert!(examples.len() >= 10, "{} examples", examples.len());
    let kinds = Kind::ALL.into_iter().filter(|k| k.group() == "weir.dev");
    for kind in kinds {
        assert!(examples.iter().any(|e| e["kind"] == kind.as_str()), "an example of a {kind}");
    }
    let all: String = examples.iter().map(|e| format!("---\n{e}\n")).collect();
    cluster.apply(&all).await;
    // As files, too, read by `kubectl`, whose YAML is another one.
    cluster.kubectl(&["create", "namespace", "demo"]).await;
    let file = |path: &str| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path).display().to_string();
    let (examples, demo) = (file("config/examples"), file("demo-services/mesh/policies.yaml"));
    cluster.kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", &examples, "-f", &demo]).await;
    let table = cluster.kubectl(&["get", "tp,ap", "-n", "default"]).await;
    assert!(table.contains("TARGETS") && table.contains("ACCEPTED") && table.contains("ACTION"), "{table}");

    let document = |(n, (kind, spec, ..)): (usize, &(&str, &str, &str, &str))| {
        let namespace = if *kind == "Mesh" { "" } else { ", namespace: default" };
        format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: broken-{n}{namespace}}}\nspec: {spec}\n"
        )
    };
    let mut failures = Vec::new();
    for (n, case) in BROKEN.iter().enumerate() {
        let text = document((n, case));
        // A schema is never stricter than the reader.
        assert!(parse("broken", &text).is_err(), "the reader takes what the schema should refuse:\n{text}");
        let refused = cluster.try_create(&text).await;
        let (_, _, field, says) = case;
        if !refused.as_ref().is_err_and(|said| said.contains(field) && said.contains(says)) {
            failures.push(format!("-- wanted {field}: {says}\n{text}{refused:?}"));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test]
async fn documents_are_taken_and_broken_ones_refused_with_the_field() {
    let Some(cluster) = Cluster::start().await else { return };
    the_api_server_knows_our_kinds(&cluster).await;
}

#[tokio::test]
async fn so_they_are_by_the_oldest_version() {
    let Some(cluster) = Cluster::of_version(oldest()).await else { return };
    the_api_server_knows_our_kinds(&cluster).await;
}
