//! A mesh of 5,000 services, of which a sidecar calls three.

use super::node;
use crate::{
    compile,
    index::World,
    store::{Batch, Memory, Store},
};
use std::fmt::Write;
use weir_config::{model::Kind, resources::parse};

#[test]
fn five_thousand_services() {
    let mut text = String::new();
    for n in 0..5_000 {
        let _ = write!(
            text,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s{n}, namespace: demo}}, \
             spec: {{selector: {{app: a{n}, team: t}}, ports: [{{port: 80, targetPort: 8080}}]}}}}\n---\n\
             {{apiVersion: weir.dev/v1alpha1, kind: Workload, metadata: {{name: w{n}, namespace: demo, labels: {{app: a{n}, team: t}}}}, \
             spec: {{address: 10.{}.{}.1}}}}\n",
            n / 250,
            n % 250
        );
    }
    let store = Memory::default();
    // In parts, since a text may have a limit of its own.
    let documents: Vec<&str> = text.split("---\n").filter(|t| !t.is_empty()).collect();
    let parts = documents.chunks(500).flat_map(|part| parse("many.yaml", &part.join("---\n")).unwrap());
    store.apply(&Batch::put_all(parts)).unwrap();
    let world = World::build(store.snapshot(), &World::default());
    let caller = node("demo", "w1");
    assert_eq!(compile::names(&world, &caller, Kind::Endpoints).len(), 5_000);
    for n in [7, 77, 4_999] {
        let listener = compile::listener(&world, &caller, &format!("s{n}:80"));
        assert!(listener.is_some());
        let name = format!("s{n}.demo.svc.cluster.local:80");
        assert!(compile::route(&world, &caller, &name).is_some());
        assert_eq!(compile::cluster(&world, &caller, &name).unwrap().tls.unwrap().identities.len(), 1);
        assert_eq!(compile::endpoints(&world, &caller, &name).unwrap().localities[0].endpoints.len(), 1);
    }
}
