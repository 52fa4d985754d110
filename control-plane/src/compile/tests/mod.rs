//! The compiler against small meshes written as operators write them.

mod aliases;
mod answers;
mod captured;
mod clusters;
mod external;
mod inbound;
mod names;
mod near;
mod property;
mod routes;
mod scale;

use super::{Class, Node};
use crate::{
    index::World,
    store::{Batch, Error, Memory, Store},
};
use weir_config::{
    model::{Route, RouteConfig},
    resources::parse,
};

/// Two services in one namespace, one in another; `web` has two instances, of which one has no sidecar.
const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, appProtocol: http}
  - {name: grpc, port: 9000, targetPort: grpc, appProtocol: grpc}
  - {name: db, port: 5432, appProtocol: tcp}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: demo}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: prod}
spec: {selector: {app: api}, ports: [{port: 8080}]}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: demo, labels: {app: web, tier: front}}
spec:
  address: 10.0.0.1
  region: eu
  zone: a
  weight: 3
  serviceAccount: web
  ports: [{name: grpc, port: 9090}]
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: web-2, namespace: demo, labels: {app: web}}
spec: {address: 10.0.0.2, zone: b, serviceAccount: web2, sidecar: {disabled: true}}
---
apiVersion: weir.dev/v1alpha1
kind: Workload
metadata: {name: api-1, namespace: demo, labels: {app: api}}
spec: {address: 10.0.0.3, serviceAccount: api, sidecar: {inboundPort: 25006}}
";

/// The world of some documents, after [`MESH`], each text one transaction (so that their ages differ).
fn world(texts: &[&str]) -> World {
    let store = Memory::default();
    for text in [MESH].iter().chain(texts) {
        apply(&store, text);
    }
    World::build(store.snapshot(), &World::default())
}

fn apply(store: &dyn Store, text: &str) {
    let documents = parse("test.yaml", text).unwrap_or_else(|issues| panic!("{}", Error::Invalid(issues)));
    store.apply(&Batch::put_all(documents)).unwrap_or_else(|error| panic!("{error}"));
}

fn node(namespace: &str, workload: &str) -> Node {
    Node { namespace: namespace.into(), workload: workload.into(), class: Class::Sidecar }
}

fn web() -> Node {
    node("demo", "web-1")
}

fn routes(config: &RouteConfig) -> &[Route] {
    assert_eq!(config.virtual_hosts.len(), 1);
    &config.virtual_hosts[0].routes
}

const WEB: &str = "web.demo.svc.cluster.local:80";
const API: &str = "api.demo.svc.cluster.local:80";
