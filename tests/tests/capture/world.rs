//! Everything that is not simply a service of the mesh: instances by their own address, the world outside, callers without
//! a sidecar, and connections that were never captured.

use crate::{ECHO, HTTP, Pods, SMTP, V4, peer};
use weir_tests::{eventually, peers};

#[tokio::test]
async fn an_instance_by_its_own_address_has_identity_policy_and_metrics() {
    let Some(curl) = peers::find("curl") else { return };
    let deny = "---\napiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: no-admin}\n\
                spec: {action: Deny, rules: [{to: [{paths: [/admin]}]}]}\n";
    let Some(pods) = Pods::start(false, deny).await else { return };
    pods.listening(&[HTTP]).await;
    let uri = format!("http://{}:{HTTP}", pods.server.v4);
    assert_eq!(pods.call(&curl, &["-sSf", &format!("{uri}/x")]).await, "GET /x scratchless\n");
    let status = pods.call(&curl, &["-sS", "-o", "/dev/null", "-w", "%{http_code}", &format!("{uri}/admin")]).await;
    assert_eq!(status, "403", "the policy of the service holds");
    let metrics = pods.metrics(&pods.client).await;
    let line = "response_code=\"200\",grpc_status=\"\",reason=\"\",source=\"default/client-1\",\
                destination=\"server.default.svc.cluster.local:8080\",route=\"default\",tls=\"mutual\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    assert!(pods.metrics(&pods.server).await.contains("source=\"default/client\""), "the caller is known");
    // A denial by path holds for what has none, too: it cannot be told whether it is meant.
    let (content, _) = pods.try_plain(&["half", V4, &ECHO.to_string()]).await;
    assert!(!content, "bytes passed by a denial");
}

#[tokio::test]
async fn the_world_outside_is_reached_unless_the_mesh_says_no() {
    let Some(python) = peers::python() else { return };
    let Some(mut pods) = Pods::start(false, "").await else { return };
    let folder = pods.mesh.folder.path().to_owned();
    let outside = pods.network.pod("outside", &folder);
    let (v4, v6) = (outside.v4.to_string(), outside.v6.to_string());
    for address in [&v4, &v6] {
        let name = format!("echo-{}", address.len());
        pods.applications.push(outside.start(
            &name,
            &folder,
            &python,
            &[&peer("captured_peer.py"), "serve-on", address, "7777"],
        ));
    }
    for address in [&v4, &v6] {
        eventually("an echo", 20, || async { pods.try_plain(&["half", address, "7777"]).await.0.then_some(()) }).await;
    }
    let metrics = pods.metrics(&pods.client).await;
    let line = "weir_protocol_detect_total{direction=\"outbound\",result=\"bytes\",method=\"passthrough\"}";
    assert!(metrics.contains(line), "{metrics}");
    // Where nobody listens, the caller sees it.
    let (content, said) = pods.try_plain(&["first", &v4, "7778", "x"]).await;
    assert!(!content && said.contains("reset"), "{said}");
    let closed = "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh}\n\
                  spec: {outboundTrafficPolicy: {mode: RegistryOnly}}\n";
    pods.mesh.apply(closed).await;
    eventually("the world outside is closed", 20, || async {
        let (content, said) = pods.try_plain(&["first", &v4, "7777", "x"]).await;
        (!content && said.contains("reset")).then_some(())
    })
    .await;
    assert!(pods.metrics(&pods.client).await.contains("reason=\"route_not_found\""));
    // The mesh is open as before.
    pods.listening(&[SMTP]).await;
    pods.plain(&["greeted", V4, &SMTP.to_string(), "1"]).await;
}

#[tokio::test]
async fn a_caller_without_a_sidecar_is_let_in_as_the_mesh_says() {
    let (Some(python), Some(curl)) = (peers::python(), peers::find("curl")) else { return };
    let Some(mut pods) = Pods::start(false, "").await else { return };
    let folder = pods.mesh.folder.path().to_owned();
    let stranger = pods.network.pod("stranger", &folder);
    pods.listening(&[HTTP, SMTP]).await;
    let own = pods.server.v4.to_string();
    let script = peer("captured_peer.py");
    // A port of which no service knows.
    pods.applications.push(pods.server.start("own", &folder, &python, &[&script, "serve-on", &own, "9099"]));
    let (content, said) = stranger.run(&python, &[&script, "half", &own, "9099"]).await;
    assert!(!content, "strict, and let in: {said}");
    let uri = format!("http://{}:{HTTP}/x", pods.server.v4);
    let (content, said) = stranger.run(&curl, &["-sS", "-m", "10", &uri]).await;
    assert!(!content, "strict, and let in: {said}");
    assert!(pods.metrics(&pods.server).await.contains("reason=\"tls_peer_untrusted\""));
    let permissive = "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh}\n\
                      spec: {mtls: {mode: Permissive}}\n";
    pods.mesh.apply(permissive).await;
    for address in [pods.server.v4.to_string(), format!("[{}]", pods.server.v6)] {
        let uri = format!("http://{address}:{HTTP}/x");
        let said = eventually("plain text is let in", 20, || async {
            let (content, said) = stranger.run(&curl, &["-gsS", "-m", "10", &uri]).await;
            content.then_some(said)
        })
        .await;
        assert_eq!(said, "GET /x scratchless\n");
    }
    eventually("a port of no service is the application's own affair", 20, || async {
        let (content, said) = stranger.run(&python, &[&script, "half", &own, "9099"]).await;
        (content && said.contains("all came back")).then_some(())
    })
    .await;
    // Who waits to be greeted is.
    let arguments = [&script, "greeted", &pods.server.v4.to_string(), &SMTP.to_string(), "3"];
    let said = stranger.must(&python, &arguments).await;
    assert_eq!(said.lines().count(), 3, "{said}");
    let metrics = pods.metrics(&pods.server).await;
    for (result, method) in [("http1", "client_bytes"), ("bytes", "server_first")] {
        let line =
            format!("weir_protocol_detect_total{{direction=\"inbound\",result=\"{result}\",method=\"{method}\"}}");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    let deny = "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: own}\n\
                spec: {targetRefs: [{kind: Workload, name: server-1}], action: Allow, \
                rules: [{from: [{namespaces: [default]}]}]}\n";
    pods.mesh.apply(deny).await;
    eventually("nobody who has no identity gets there", 20, || async {
        (!stranger.run(&python, &[&script, "half", &own, "9099"]).await.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_not_captured_does_not_go_round_in_circles() {
    let Some(pods) = Pods::start(false, "").await else { return };
    for address in ["127.0.0.1", "::1"] {
        let (content, said) = pods.try_plain(&["first", address, "15001", "x"]).await;
        assert!(!content && said.contains("reset"), "{said}");
    }
    let metrics = pods.metrics(&pods.client).await;
    let line = "weir_connections_refused_total{direction=\"outbound\",reason=\"loop_detected\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}
