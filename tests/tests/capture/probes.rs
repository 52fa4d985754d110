//! A kubelet's questions: plain text from outside, where the mesh is strict and every request is denied. They pass, and
//! nothing else does.

use crate::{GRPC, HTTP, Pods, SMTP, peer};
use weir_tests::{eventually, peers};

/// Nobody may call anything.
const DENIED: &str = "---\napiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: deny-all}\nspec: {action: Allow}\n";
/// No service leads to this one.
const HEALTH: u16 = 8099;

#[tokio::test]
async fn a_kubelet_s_questions_pass_under_strict_mtls_and_default_deny_and_nothing_else_does() {
    let (Some(curl), Some(python)) = (peers::find("curl"), peers::python()) else { return };
    let probes = format!("http://:{HTTP}/healthz?full=1 http://:{HEALTH}/up grpc://:{GRPC} tcp://:{SMTP}");
    let Some(mut pods) = Pods::start_asked(false, DENIED, &probes).await else { return };
    let folder = pods.mesh.folder.path().to_owned();
    let (health, grpc) = (HEALTH.to_string(), GRPC.to_string());
    pods.applications.push(pods.server.start("grpc", &folder, &python, &[&peer("grpc_peer.py"), "server", &grpc]));
    let serve = [peer("captured_peer.py"), "serve".into(), health, "2526".into(), "7003".into()];
    pods.applications.push(pods.server.start("health", &folder, &python, &serve.each_ref().map(String::as_str)));
    pods.listening(&[HTTP, SMTP, GRPC, HEALTH]).await;
    let node = pods.network.pod("node", &folder);
    let server = pods.server.v4;

    // The status, or 000 where the connection ended.
    let asked = async |port: u16, path: &str, more: &[&str]| {
        let uri = format!("http://{server}:{port}{path}");
        let fixed = ["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} %header{weir-reason}"];
        let (_, said) = node.run(&curl, &[&fixed[..], more, &[&uri]].concat()).await;
        said.lines().last().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(asked(HTTP, "/healthz?full=1", &[]).await, "200");
    assert_eq!(asked(HEALTH, "/up", &[]).await, "200");
    let refused = "503 tls_peer_untrusted";
    for (port, path, more) in [
        (HTTP, "/healthz", &[][..]),
        (HTTP, "/healthz?full=1&more", &[]),
        (HTTP, "/healthz/../x", &["--path-as-is"]),
        (HTTP, "/", &[]),
        (HTTP, "/healthz?full=1", &["-X", "POST"]),
        (HTTP, "/healthz?full=1", &["-d", "x", "-X", "GET"]),
        (HTTP, "/up", &[]),
        (HEALTH, "/healthz?full=1", &[]),
        (GRPC, "/grpc.health.v1.Health/Check", &["--http2-prior-knowledge"]),
    ] {
        assert_eq!(asked(port, path, more).await, refused, "{port} {path} {more:?}");
    }
    // A good question does not open the connection for the next.
    let (first, second) = (format!("http://{server}:{HTTP}/healthz?full=1"), format!("http://{server}:{HTTP}/other"));
    let two = ["-sS", "-m", "10", "-w", "%{http_code} ", "-o", "/dev/null", "-o", "/dev/null", &first, &second];
    assert_eq!(node.run(&curl, &two).await.1.trim(), "200 503");
    // gRPC's health, and no other method.
    let at = format!("{server}:{GRPC}");
    let said = node.must(&python, &[&peer("grpc_peer.py"), "health", &at]).await;
    assert_eq!(said.trim(), "serving; Unary: UNAVAILABLE");
    // To connect is enough where that is asked, and it is no refusal.
    let refusals = "weir_connections_refused_total{direction=\"inbound\",reason=\"client_timeout\"}";
    let connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).close()";
    for _ in 0..3 {
        node.must(&python, &["-c", connect, &server.to_string(), &SMTP.to_string()]).await;
    }
    node.must(&python, &["-c", connect, &server.to_string(), "7000"]).await;
    eventually("the other connection is a refusal", 20, || async {
        pods.metrics(&pods.server).await.contains(&format!("{refusals} 1\n")).then_some(())
    })
    .await;
    let (content, said) =
        node.run(&python, &[&peer("captured_peer.py"), "first", &server.to_string(), "2525", "x"]).await;
    assert!(!content, "more than a connection was let in: {said}");
    // They are counted as what they are.
    let metrics = pods.metrics(&pods.server).await;
    let counted = format!("destination=\"probe:{HTTP}\",route=\"probe\",tls=\"none\"}} 2\n");
    assert!(metrics.contains(&counted), "no {counted} in\n{metrics}");
    // The mesh is closed as before: also for those who have an identity.
    let denied = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", &first];
    assert_eq!(pods.call(&curl, &denied).await, "403");
}

#[tokio::test]
async fn a_kubelet_s_questions_pass_policies_where_plain_text_is_served() {
    let Some(curl) = peers::find("curl") else { return };
    let more = format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: mesh}}\nspec: {{mtls: {{mode: Permissive}}}}\n{DENIED}"
    );
    let Some(mut pods) = Pods::start_asked(false, &more, &format!("http://:{HTTP}/healthz")).await else { return };
    pods.listening(&[HTTP]).await;
    let folder = pods.mesh.folder.path().to_owned();
    let node = pods.network.pod("node", &folder);
    for (path, status) in [("/healthz", "200"), ("/other", "403")] {
        let uri = format!("http://{}:{HTTP}{path}", pods.server.v4);
        let said = node.must(&curl, &["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", &uri]).await;
        assert_eq!(said, status, "{path}");
    }
}
