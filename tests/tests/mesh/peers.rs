//! Real peers, unchanged: curl, nghttp, gRPC's own client and server, a WebSocket client; and bodies of a gibibyte.

use crate::{Pair, pair};
use std::{path::Path, process::Stdio};
use tokio::process::Command;
use weir_tests::{
    free_port,
    mesh::{Mesh, service, workload},
    peers,
    process::Process,
};

async fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(120), output).await.expect("in time").expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program:?} {arguments:?}: {}\n{text}", output.status);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_as_a_proxy_client_by_host_and_by_connect() {
    let Some(curl) = peers::find("curl") else { return };
    let pair = pair("http", "").await;
    let proxy = format!("http://{}", pair.client.outbound);
    let direct = format!("http://{}/path", pair.client.outbound);
    for arguments in [
        vec!["-sSf", "-x", &proxy, "http://server:8080/path"],
        vec!["-sSf", "--proxytunnel", "-x", &proxy, "http://server:8080/path"],
        vec!["-sSf", "-H", "Host: server:8080", &direct],
        vec!["-sSf", "--http2-prior-knowledge", "-H", "Host: server:8080", &direct],
    ] {
        let text = run(&curl, &arguments).await;
        assert!(text.contains("GET /path"), "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nghttp_speaks_http2_in_plain_text() {
    let Some(nghttp) = peers::find("nghttp") else { return };
    let pair = pair("http", "").await;
    let uri = format!("http://{}/path", pair.client.outbound);
    let text = run(&nghttp, &["-v", "-H", ":authority: server:8080", &uri]).await;
    assert!(text.contains(":status: 200") && text.contains("GET /path"), "{text}");
}

/// A pair whose application is a Python program.
async fn python_pair(
    script: &str,
    protocol: &str,
) -> Option<(Mesh, Process, weir_tests::mesh::Sidecar, Vec<weir_tests::mesh::Sidecar>)> {
    let python = peers::python()?;
    let (application, server_port, client_port) = (free_port(), free_port(), free_port());
    let documents = [
        service("server", 8080, protocol),
        workload("server-1", "server", application, server_port),
        workload("client-1", "client", free_port(), client_port),
    ]
    .concat();
    let mesh = Mesh::start(&documents).await;
    let mut command = std::process::Command::new(python);
    command.arg(folder().join(script)).args(["server", &application.to_string()]);
    let server = Process::start("application", mesh.folder.path(), &mut command);
    weir_tests::eventually("the Python server listens", 20, || async {
        tokio::net::TcpStream::connect(("127.0.0.1", application)).await.ok()
    })
    .await;
    let sidecar = mesh.sidecar("server-1", "server", server_port).await;
    let client = mesh.sidecar("client-1", "client", client_port).await;
    Some((mesh, server, client, vec![sidecar]))
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_in_all_four_kinds_of_call() {
    let Some((_mesh, _server, client, _sidecars)) = python_pair("grpc_peer.py", "grpc").await else { return };
    let Some(python) = peers::python() else { return };
    let script = folder().join("grpc_peer.py");
    let text = run(&python, &[script.to_str().unwrap(), "client", &client.outbound.to_string()]).await;
    assert!(text.contains("all calls passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_both_ways() {
    let Some((_mesh, _server, client, _sidecars)) = python_pair("websocket_peer.py", "http").await else { return };
    let Some(python) = peers::python() else { return };
    let script = folder().join("websocket_peer.py");
    let text = run(&python, &[script.to_str().unwrap(), "client", &client.outbound.to_string()]).await;
    assert!(text.contains("all messages came back"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_streams_through_both_ways_in_flat_memory() {
    let Some(curl) = peers::find("curl") else { return };
    let Pair { mesh: _mesh, mut client, mut server, application: _application } = pair("http", "").await;
    let (before_client, before_server) = (client.process().rss_kib(), server.process().rss_kib());
    let size = 1u64 << 30;
    let down = format!("http://{}/bytes/{size}", client.outbound);
    let text =
        run(&curl, &["-sSf", "-H", "Host: server:8080", "-o", "/dev/null", "-w", "%{size_download}", &down]).await;
    assert_eq!(text.trim(), size.to_string());
    let up = format!("http://{}/count/0", client.outbound);
    let upload =
        format!("head -c {size} /dev/zero | '{}' -sSf -H 'Host: server:8080' -H 'Expect:' -T - {up}", curl.display());
    let text = run(Path::new("sh"), &["-c", &upload]).await;
    assert_eq!(text.trim(), size.to_string());
    let (grown_client, grown_server) = (
        client.process().rss_kib().saturating_sub(before_client),
        server.process().rss_kib().saturating_sub(before_server),
    );
    eprintln!("after 1 GiB each way: client's sidecar +{grown_client} KiB, server's +{grown_server} KiB");
    assert!(grown_client < 16 * 1024 && grown_server < 16 * 1024, "+{grown_client} KiB, +{grown_server} KiB");
}
