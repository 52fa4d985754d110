//! A port that is declared to speak HTTP/2 with prior knowledge: the server is not heard before the client has spoken, nothing
//! is ever taken for bytes, and a client of HTTP/1 is served all the same.

use crate::{HTTP, Pods, SMTP};
use weir_tests::{eventually, peers};

/// A service whose ports are declared.
const ADDRESS: &str = "10.96.0.9";

/// Its application speaks HTTP/1 on the first port, and greets first, in a language of its own, on the second.
const DOCUMENTS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: declared}
spec:
  clusterIP: 10.96.0.9
  selector: {app: server}
  ports:
  - {name: a, port: 8080, appProtocol: kubernetes.io/h2c}
  - {name: b, port: 2525, appProtocol: kubernetes.io/h2c}
";

#[tokio::test]
async fn where_http_2_is_declared_nobody_else_speaks_first_and_http_1_is_served_too() {
    let Some(curl) = peers::find("curl") else { return };
    let Some(pods) = Pods::start(false, DOCUMENTS).await else { return };
    let own = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: server-1, labels: {{app: server}}}}\n\
         spec: {{address: '{}', serviceAccount: server, ports: [{{name: http, port: {HTTP}, appProtocol: http}}]}}\n",
        pods.server.v4
    );
    pods.mesh.apply(&own).await;
    pods.listening(&[HTTP, SMTP]).await;
    let uri = format!("http://{ADDRESS}:{HTTP}/");
    let status = async |version: &str| {
        let ask = ["-s", "-m", "10", version, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", &uri];
        pods.client.run(&curl, &ask).await.1
    };
    eventually("the application is reached", 20, || async {
        (status("--http2-prior-knowledge").await == "200 2").then_some(())
    })
    .await;
    assert_eq!(status("--http1.1").await, "200 1.1", "a client that speaks HTTP/1 is served");
    // A wrong preface of HTTP/2 is no request of HTTP/1 either.
    let ports = [HTTP, SMTP].map(|port| port.to_string());
    let said = pods.plain(&["first", ADDRESS, &ports[0], "INVALID CONNECTION PREFACE\r\n\r\n"]).await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    // Where the server greets, nobody hears it: what is not HTTP is an error and not bytes, also for who asks next.
    for _ in 0..2 {
        let ask = "GET / HTTP/1.1\r\nHost: declared\r\n\r\n";
        let said = pods.plain(&["silent", ADDRESS, &ports[1], ask]).await;
        assert!(said.starts_with("HTTP/1.1 50"), "{said}");
    }
    let metrics = pods.metrics(&pods.client).await;
    for result in ["http1", "http2"] {
        let line =
            format!("weir_protocol_detect_total{{direction=\"outbound\",result=\"{result}\",method=\"declared\"}}");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    assert!(!metrics.contains("result=\"bytes\""), "{metrics}");
}
