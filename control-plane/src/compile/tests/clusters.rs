//! How services are called, and where their instances are.

use super::{API, WEB, apply, web, world};
use crate::{
    compile,
    index::World,
    store::{Memory, Store},
};
use std::time::Duration;
use weir_config::model::{Cluster, Discovery, Health, LoadBalancing, Protocol};

fn cluster(texts: &[&str], name: &str) -> Cluster {
    compile::cluster(&world(texts), &web(), name).unwrap()
}

#[test]
fn without_a_policy_the_defaults_are_safe() {
    let c = cluster(&[], WEB);
    assert_eq!(c.discovery, Discovery::Eds(WEB.into()));
    assert_eq!(c.connect_timeout, Duration::from_secs(1));
    assert_eq!(c.load_balancing, LoadBalancing::default());
    assert!(c.outlier.is_some(), "an instance that only fails is taken out");
    assert_eq!(c.retry_budget, weir_config::model::RetryBudget::default());
    assert_eq!(c.limits.max_requests, None);
}

#[test]
fn the_protocol_is_the_ports() {
    for (name, protocol) in [
        (WEB, Protocol::Http1),
        ("web.demo.svc.cluster.local:9000", Protocol::Http2),
        ("web.demo.svc.cluster.local:5432", Protocol::Tcp),
        ("inbound:8080", Protocol::Http1),
        ("inbound:9090", Protocol::Http2),
        ("inbound:5432", Protocol::Tcp),
    ] {
        assert_eq!(cluster(&[], name).protocol, protocol, "{name}");
    }
}

#[test]
fn policies_go_from_the_mesh_to_the_service_part_by_part() {
    let mesh = "
apiVersion: weir.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec:
  defaults:
    loadBalancing: {algorithm: LeastRequest, leastRequest: {choices: 4}}
    timeouts: {connect: 3s}
    circuitBreaker: {limits: {maxConnections: 100, maxRequests: 10}}
";
    let service = "
apiVersion: weir.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: web, namespace: demo}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  timeouts: {connect: 200ms}
  circuitBreaker: {limits: {maxRequests: 20}}
";
    let own = cluster(&[mesh, service], WEB);
    assert_eq!(own.connect_timeout, Duration::from_millis(200));
    assert_eq!(own.load_balancing, LoadBalancing::LeastRequest { choices: 4 });
    assert_eq!((own.limits.max_connections, own.limits.max_requests), (Some(100), Some(20)));
    let other = cluster(&[mesh, service], API);
    assert_eq!(other.connect_timeout, Duration::from_secs(3));
    assert_eq!((other.limits.max_connections, other.limits.max_requests), (Some(100), Some(10)));
    let inbound = cluster(&[mesh, service], "inbound:8080");
    assert_eq!(inbound.limits.max_requests, None, "defaults are for callers, not for the application's own sidecar");
}

#[test]
fn of_several_policies_of_a_target_the_oldest_wins() {
    let policy = |name: &str, connect: &str, more: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: web}}]\n  timeouts: {{connect: {connect}{more}}}\n"
        )
    };
    let (old, new) = (policy("z", "1s", ""), policy("a", "2s", ", request: 9s"));
    assert_eq!(cluster(&[&old, &new], WEB).connect_timeout, Duration::from_secs(1));
    assert_eq!(cluster(&[&new, &old], WEB).connect_timeout, Duration::from_secs(2));
}

#[test]
fn sidecars_are_called_with_mutual_tls_and_by_all_their_identities() {
    let tls = cluster(&[], WEB).tls.unwrap();
    assert_eq!(&*tls.sni, "80.web.demo.svc.cluster.local");
    let ids: Vec<&str> = tls.identities.iter().map(weir_config::model::SpiffeId::as_str).collect();
    assert_eq!(ids, ["spiffe://weir.local/ns/demo/sa/web"], "who has no sidecar shows no certificate");
    assert!(cluster(&[], "api.prod.svc.cluster.local:8080").tls.is_none(), "there is nobody to be called");

    let off = "{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {name: mesh}, spec: {mtls: {mode: Disabled}}}";
    assert!(cluster(&[off], WEB).tls.is_none());
    let all_plain = "
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: demo, labels: {app: web}}
spec: {address: 10.0.0.1, sidecar: {disabled: true}}
";
    assert!(cluster(&[all_plain], WEB).tls.is_none(), "no instance has a sidecar");
}

#[test]
fn endpoints_are_sidecars_or_else_applications() {
    let world = world(&[]);
    let found = compile::endpoints(&world, &web(), WEB).unwrap();
    let seen: Vec<_> = found
        .localities
        .iter()
        .flat_map(|l| {
            l.endpoints.iter().map(move |e| {
                (&*l.region, &*l.zone, l.priority, l.weight, e.address.to_string(), e.weight, e.mesh, &*e.workload)
            })
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("", "b", 0, 1, "10.0.0.2:8080".to_owned(), 1, false, "demo/web-2"),
            ("eu", "a", 0, 3, "10.0.0.1:15006".to_owned(), 3, true, "demo/web-1"),
        ]
    );
    let api = compile::endpoints(&world, &web(), API).unwrap();
    assert_eq!(api.localities[0].endpoints[0].address.to_string(), "10.0.0.3:25006");
    let named = compile::endpoints(&world, &web(), "web.demo.svc.cluster.local:9000").unwrap();
    let addresses: Vec<_> = named.localities.iter().flat_map(|l| &l.endpoints).map(|e| &*e.workload).collect();
    assert_eq!(addresses, ["demo/web-1"], "only who has a port of that name");
    let nobody = compile::endpoints(&world, &web(), "api.prod.svc.cluster.local:8080").unwrap();
    assert!(nobody.localities.is_empty());
}

#[test]
fn health_and_double_addresses() {
    let more = "
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: api-0, namespace: demo, labels: {app: api}}
spec: {address: 10.0.0.7, sidecar: {disabled: true}, health: Draining}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: api-8, namespace: demo, labels: {app: api}}
spec: {address: 10.0.0.7, sidecar: {disabled: true}}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: api-9, namespace: demo, labels: {app: api}}
spec: {address: 10.0.0.9, health: Unhealthy}
";
    let found = compile::endpoints(&world(&[more]), &web(), API).unwrap();
    let seen: Vec<_> = found.localities[0].endpoints.iter().map(|e| (&*e.workload, e.health)).collect();
    assert_eq!(
        seen,
        [("demo/api-0", Health::Draining), ("demo/api-1", Health::Healthy), ("demo/api-9", Health::Unhealthy)],
        "an address occurs once"
    );
}

#[test]
fn the_same_documents_give_the_same_resources() {
    let store = Memory::default();
    apply(&store, super::MESH);
    let first = World::build(store.snapshot(), &World::default());
    apply(
        &store,
        "{apiVersion: v1, kind: Service, metadata: {name: new, namespace: demo}, spec: {ports: [{port: 80}]}}",
    );
    let second = World::build(store.snapshot(), &first);
    for name in [WEB, API] {
        assert_eq!(compile::cluster(&first, &web(), name), compile::cluster(&second, &web(), name));
        assert_eq!(compile::endpoints(&first, &web(), name), compile::endpoints(&second, &web(), name));
        assert_eq!(compile::route(&first, &web(), name), compile::route(&second, &web(), name));
    }
    assert!(compile::cluster(&second, &web(), "new.demo.svc.cluster.local:80").is_some());
}
