//! The control plane as a whole: ports, health, what outlives a restart, and the end.

use super::*;
use crate::{api::types, client::Client, store::Batch};
use weir_config::resources;

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\nspec:\n  selector: {app: web}\n  ports: [{port: 8080}]\n";

async fn page(at: SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut tcp = tokio::net::TcpStream::connect(at).await.unwrap();
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    (text[9..12].parse().unwrap(), text)
}

#[tokio::test]
async fn metrics_and_health_answer_on_their_port() {
    let running = App::start(Options::ephemeral()).await.unwrap();
    running.store().apply(&Batch::put_all(resources::parse("x", WEB).unwrap())).unwrap();
    let mut world = index::follow(running.store().watch()).0;
    world.wait_for(|w| w.version() == 1).await.unwrap();
    let at = running.addresses().metrics;
    for probe in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(page(at, probe).await.0, 200, "{probe}");
    }
    let (status, text) = page(at, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("weir_build_info") && text.contains("weir_cp_documents{kind=\"Service\"}"), "{text}");
    running.shutdown().await;
}

#[tokio::test]
async fn documents_and_identity_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data: Some(folder.path().into()), ..Options::ephemeral() };
    let first = App::start(options.clone()).await.unwrap();
    first.store().apply(&Batch::put_all(resources::parse("x", WEB).unwrap())).unwrap();
    let roots = trust(&first).await;
    assert!(roots.contains("BEGIN CERTIFICATE"));
    first.shutdown().await;

    let second = App::start(options).await.unwrap();
    assert_eq!(second.store().snapshot().version(), 1);
    assert_eq!(trust(&second).await, roots, "the same root");
    second.shutdown().await;
}

async fn trust(running: &Running) -> String {
    let client = Client::new(&running.addresses().api.to_string(), None).unwrap();
    client.get::<types::Trust>("/api/v1/trust").await.unwrap().roots
}

#[tokio::test]
async fn a_folders_documents_are_there_before_the_first_answer() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web.yaml"), WEB).unwrap();
    let options = Options { folder: Some(folder.path().into()), ..Options::ephemeral() };
    let running = App::start(options).await.unwrap();
    assert_eq!(running.store().snapshot().len(), 1);
    let client = Client::new(&running.addresses().api.to_string(), None).unwrap();
    let changes = client.get::<types::ChangeList>("/api/v1/changes").await.unwrap().items;
    assert_eq!(changes[0].summary, "Service/demo/web created");
    running.shutdown().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options { xds: taken.local_addr().unwrap(), ..Options::ephemeral() };
    let error = App::start(options).await.err().unwrap().to_string();
    assert!(error.contains(&taken.local_addr().unwrap().to_string()) && error.contains("--xds"), "{error}");
}

#[tokio::test]
async fn a_token_for_another_service_account_is_refused_at_once() {
    let running = App::start(Options::ephemeral()).await.unwrap();
    let workload = "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {name: web-1, namespace: demo}\nspec: {address: 127.0.0.1, serviceAccount: web, ports: [{name: http, port: 1}]}\n";
    running.store().apply(&Batch::put_all(resources::parse("x", workload).unwrap())).unwrap();
    let client = Client::new(&running.addresses().api.to_string(), None).unwrap();
    let ask = async |account: &str| {
        let request =
            serde_json::json!({"namespace": "demo", "serviceAccount": account, "workload": "web-1", "ttlSeconds": 60});
        let body = crate::client::Body { media_type: "application/json", bytes: request.to_string().into() };
        client.send::<types::Token>(http::Method::POST, "/api/v1/tokens", &[], Some(body)).await
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while ask("other").await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "the index never saw the workload");
        tokio::task::yield_now().await;
    }
    assert_eq!(ask("web").await.unwrap().identity, "spiffe://weir.local/ns/demo/sa/web");
    running.shutdown().await;
}
