//! Connections between sidecars are renewed when they are old, and nobody notices.

use crate::{service, workload};
use http::{Method, StatusCode};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};
use weir_tests::{
    application::Application,
    client::{Connection, request, send},
    free_port,
    mesh::Mesh,
};

/// Carries connections to a port of this machine, and counts them.
async fn relay(to: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (port, count) = (listener.local_addr().expect("an address").port(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (port, count)
}

/// Makes requests over one connection for a time, beside one that takes longer than connections live; says how many
/// connections there were between the sidecars.
async fn connections(protocol: &str, age: &str) -> usize {
    let application = Application::start("server-1").await;
    let inbound = free_port();
    let (between, count) = relay(inbound).await;
    let policy = format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: age}}\n\
         spec: {{targetRefs: [{{kind: Service, name: server}}], {age}}}\n"
    );
    let documents = [
        service("server", 8080, protocol),
        workload("server-1", "server", application.address.port(), between),
        workload("client-1", "client", free_port(), free_port()),
        policy,
    ]
    .concat();
    let mesh = Mesh::start(&documents).await;
    let _server = mesh.sidecar("server-1", "server", inbound).await;
    let client = mesh.sidecar("client-1", "client", free_port()).await;
    let outbound = client.outbound;
    let long = tokio::spawn(async move {
        let answer = send(outbound, request(Method::GET, "server:8080", "/slow/3500", "")).await.expect("an answer");
        answer.status()
    });
    let mut connection = Connection::http2(outbound).await.expect("a connection");
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let uri = "http://server:8080/slow/20";
        let answer = connection.send(http::Request::get(uri).body(Default::default()).expect("a request")).await;
        assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    }
    assert_eq!(long.await.expect("no panic"), StatusCode::OK, "what is under way is not cut");
    count.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_takes_no_new_request_and_is_not_cut() {
    for protocol in ["grpc", "http"] {
        let renewed = connections(protocol, "connectionPool: {maxConnectionAge: 1s}").await;
        assert!(renewed >= 4, "{protocol}: {renewed} connections in four seconds");
        let kept = connections(protocol, "connectionPool: {maxConnectionAge: 0s}").await;
        assert!(kept < renewed && kept <= 4, "{protocol}: {kept} and not {renewed}");
    }
}
