//! Whatever documents there are and whatever is asked: no panic, what is made is named as asked, and the same every time.

use super::node;
use crate::{
    compile::{self, Class, Node},
    index::World,
    store::{Batch, Memory, Store},
};
use proptest::prelude::*;
use weir_config::{
    model::{Kind, Listener},
    resources::{Document, parse},
};

/// One small document out of a world with few names, so that documents meet each other.
fn document() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let namespace = prop::sample::select(vec!["demo", "prod"]);
    let port = prop::sample::select(vec![80u16, 8080, 65535]);
    let protocol = prop::sample::select(vec!["http", "grpc", "tcp", "kubernetes.io/h2c"]);
    let path = prop::sample::select(vec!["/", "/a", "/a/b", "/é"]);
    let mode = prop::sample::select(vec!["Strict", "Permissive", "Disabled"]);
    (name.clone(), name, namespace, port, protocol, path, mode, 0u8..11, any::<bool>()).prop_map(
        |(name, other, namespace, port, protocol, path, mode, kind, flag)| {
            let meta = format!("metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {other}}}}}");
            let address = format!("10.0.{}.{}", namespace.len() + usize::from(namespace == "prod"), name.as_bytes()[0]);
            let parent = format!("parentRefs: [{{group: '', kind: Service, name: {other}, namespace: {namespace}}}]");
            match kind {
                0 | 1 => format!(
                    "{{apiVersion: v1, kind: Service, {meta}, spec: {{selector: {{app: {other}}}, \
                     ports: [{{name: x, port: {port}, targetPort: y, appProtocol: {protocol}}}, {{name: z, port: 81}}]}}}}"
                ),
                2 | 3 => format!(
                    "{{apiVersion: weir.dev/v1alpha1, kind: Workload, {meta}, spec: {{address: {address}, weight: 1000000, \
                     ports: [{{name: y, port: {port}}}], sidecar: {{disabled: {flag}}}}}}}"
                ),
                4 => format!(
                    "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, {meta}, spec: {{{parent}, rules: [\
                     {{matches: [{{path: {{type: PathPrefix, value: {path}}}}}]}}, {{backendRefs: [{{name: {name}, port: 81}}]}}]}}}}"
                ),
                5 => format!(
                    "{{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, {meta}, spec: {{{parent}, rules: [{{}}]}}}}"
                ),
                6 => format!(
                    "{{apiVersion: weir.dev/v1alpha1, kind: TrafficPolicy, {meta}, spec: {{targetRefs: \
                     [{{kind: Service, name: {other}}}], timeouts: {{request: 0s, idle: 1s}}, retry: {{attempts: 3}}}}}}"
                ),
                7 => format!(
                    "{{apiVersion: weir.dev/v1alpha1, kind: TrafficPolicy, {meta}, spec: {{targetRefs: \
                     [{{kind: Workload, name: {other}}}], fault: {{delay: {{fixed: 1s}}}}}}}}"
                ),
                8 => format!(
                    "{{apiVersion: weir.dev/v1alpha1, kind: AuthorizationPolicy, {meta}, spec: {{action: Allow, \
                     rules: [{{from: [{{namespaces: [{namespace}]}}]}}]}}}}"
                ),
                9 => format!(
                    "{{apiVersion: weir.dev/v1alpha1, kind: ExternalService, {meta}, spec: {{hosts: [{name}.example, \
                     {other}.ext.example], ports: [{{port: {port}, protocol: TCP}}]}}}}"
                ),
                _ => format!("{{apiVersion: weir.dev/v1alpha1, kind: Mesh, metadata: {{name: mesh}}, spec: {{mtls: {{mode: {mode}}}}}}}"),
            }
        },
    )
}

/// A store with as many of the documents as fit together.
fn store(texts: &[String]) -> Memory {
    let store = Memory::default();
    for text in texts {
        if let Ok(documents) = parse("generated.yaml", text) {
            let _ = store.apply(&Batch::put_all(documents));
        }
    }
    store
}

fn asked() -> impl Strategy<Value = String> {
    prop_oneof![
        "[abc]?(\\.(demo|prod))?(\\.svc)?(\\.cluster\\.local)?(:[0-9]{0,5})?",
        "[abc]\\.(demo|prod)\\.svc\\.cluster\\.local:(80|81|8080|65535)",
        "inbound[:/](80|8080|demo/a|prod/b)",
        "dns/[abc](\\.(demo|prod|example|ext\\.example))?(\\.svc)?",
        "[abc]\\.(ext\\.)?example:(80|81|8080)",
        "(10\\.0\\.4\\.9[789]|240\\.240\\.0\\.1)_(80|81)",
        "\\PC{0,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn compiling_never_panics(
        texts in prop::collection::vec(document(), 0..25),
        names in prop::collection::vec(asked(), 0..12),
        grpc in any::<bool>(),
    ) {
        let store = store(&texts);
        let world = World::build(store.snapshot(), &World::default());
        let again = World::build(store.snapshot(), &world);
        let class = if grpc { Class::Grpc } else { Class::Sidecar };
        for node in [node("demo", "a"), node("prod", "ghost")].map(|n| Node { class, ..n }) {
            let all = Kind::ALL.iter().flat_map(|kind| compile::names(&world, &node, *kind));
            for name in all.map(|n| n.to_string()).chain(names.iter().cloned()) {
                same_and_named(&world, &again, &node, &name)?;
            }
        }
    }

    #[test]
    fn what_is_listed_exists(texts in prop::collection::vec(document(), 0..25)) {
        let store = store(&texts);
        let world = World::build(store.snapshot(), &World::default());
        for stored in store.snapshot().iter().map(|(_, s)| s) {
            let Document::Workload(_) = &*stored.document else { continue };
            let node = node(stored.document.namespace(), stored.document.name());
            let of = |kind| compile::names(&world, &node, kind);
            prop_assert!(of(Kind::Cluster).iter().all(|n| compile::cluster(&world, &node, n).is_some()));
            prop_assert!(of(Kind::Endpoints).iter().all(|n| compile::endpoints(&world, &node, n).is_some()));
            prop_assert!(of(Kind::Route).iter().all(|n| compile::route(&world, &node, n).is_some()));
            prop_assert!(of(Kind::Listener).iter().all(|n| compile::listener(&world, &node, n).is_some()));
        }
    }
}

fn same_and_named(world: &World, again: &World, node: &Node, name: &str) -> Result<(), TestCaseError> {
    let cluster = compile::cluster(world, node, name);
    prop_assert!(cluster.as_ref().is_none_or(|c| *c.name == *name));
    prop_assert_eq!(cluster, compile::cluster(again, node, name));
    let endpoints = compile::endpoints(world, node, name);
    prop_assert!(endpoints.as_ref().is_none_or(|e| *e.name == *name));
    prop_assert_eq!(endpoints, compile::endpoints(again, node, name));
    let route = compile::route(world, node, name);
    prop_assert!(route.as_ref().is_none_or(|r| *r.name == *name));
    prop_assert_eq!(route, compile::route(again, node, name));
    let listener = compile::listener(world, node, name);
    prop_assert!(listener.as_ref().map(Listener::name).is_none_or(|n| **n == *name));
    prop_assert_eq!(listener, compile::listener(again, node, name));
    Ok(())
}

#[test]
fn the_generator_makes_documents_that_fit_together() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let texts = prop::collection::vec(document(), 200..201).new_tree(&mut runner).unwrap().current();
    let store = store(&texts);
    let kinds: std::collections::BTreeSet<_> = store.snapshot().iter().map(|(key, _)| key.kind).collect();
    assert_eq!(kinds.len(), weir_config::resources::Kind::ALL.len(), "{kinds:?}");
    let world = World::build(store.snapshot(), &World::default());
    assert!(world.services().any(|s| !s.workloads.is_empty() && !s.routes.is_empty()));
}
