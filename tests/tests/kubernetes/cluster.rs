//! The cluster of the tests is one.

use weir_tests::{cluster::Cluster, eventually};

const HELLO: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: demo}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: demo, labels: {app: web}}
spec:
  serviceAccountName: web
  containers: [{name: web, image: 'web:1'}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {selector: {app: web}, ports: [{port: 80}]}
";

#[tokio::test]
async fn a_cluster_starts_answers_and_survives_its_api_server() {
    let begun = std::time::Instant::now();
    let Some(mut cluster) = Cluster::start().await else { return };
    eprintln!("ready after {:?}", begun.elapsed());
    cluster.apply(HELLO).await;
    // The controllers work: an EndpointSlice is made for the service, and a token signed for the account.
    eventually("an EndpointSlice", 30, || async {
        let slices = cluster.get(&["endpointslices", "-n", "demo", "-l", "kubernetes.io/service-name=web"]).await;
        slices["items"].as_array().is_some_and(|s| s.len() == 1).then_some(())
    })
    .await;
    // RBAC is on: an account may do nothing yet.
    let config = cluster.kubeconfig_of("demo", "web").await;
    let refused = cluster.try_kubectl(&["--kubeconfig", config.to_str().unwrap(), "get", "pods", "-n", "demo"]).await;
    assert!(refused.as_ref().is_err_and(|said| said.contains("forbidden")), "{refused:?}");

    cluster.kill_api();
    assert!(cluster.try_kubectl(&["get", "pods"]).await.is_err());
    cluster.start_api().await;
    assert!(cluster.kubectl(&["get", "pods", "-n", "demo"]).await.contains("web-1"));
}
