//! h2spec against the sidecar's HTTP/2 server: every case of RFC 7540 and 7541 that it knows.

use crate::path;
use std::collections::BTreeMap;
use weir_tests::{eventually, mesh::service, peers};

/// Cases that do not pass, and why that is right.
const EXCEPTIONS: &[(&str, &str)] = &[(
    "http2/3.5 Sends invalid connection preface",
    "this port speaks HTTP/1 too: what is no preface is read as a request of HTTP/1, answered 400 and closed",
)];

#[tokio::test(flavor = "multi_thread")]
async fn the_http_2_server_passes_every_case() {
    let Some(h2spec) = peers::find("h2spec") else { return };
    let path = path(crate::attacks::naming().await).await;
    let report = path.mesh.folder.path().join("h2spec.xml");
    // The authority that h2spec asks for is where it connects to: here a service, so that its requests go all the way, and
    // nobody answers before a request has ended.
    let port = path.client.outbound.port();
    path.mesh.apply(&service("localhost", port, "http").replace("{app: localhost}", "{app: server}")).await;
    eventually("the service is known", 10, || async {
        let ask = format!("GET /known HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        (path.connect().await.ask("GET", ask).await.status() == 200).then_some(())
    })
    .await;
    let mut command = tokio::process::Command::new(h2spec);
    command.args(["--host", "localhost", "--port", &port.to_string()]);
    command.args(["--timeout", "5", "--junit-report"]).arg(&report).kill_on_drop(true);
    let limit = std::time::Duration::from_secs(280);
    let output = tokio::time::timeout(limit, command.output()).await.expect("in time").expect("h2spec runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let cases = cases(&std::fs::read_to_string(&report).expect("a report"));
    assert!(cases.len() >= 140, "{} cases:\n{text}", cases.len());
    let failed: Vec<_> = cases.iter().filter(|(_, passed)| !**passed).map(|(name, _)| name.as_str()).collect();
    let excepted: Vec<_> = EXCEPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(failed, excepted, "{text}");
}

/// Each case, and whether it passed (JUnit's report: one `testcase` an element; a failed one holds `failure` or `error`).
fn cases(report: &str) -> BTreeMap<String, bool> {
    let attribute = |text: &str, name: &str| {
        let from = text.split_once(&format!(" {name}=\"")).map_or("", |(_, after)| after);
        from.split('"').next().unwrap_or_default().to_owned()
    };
    let elements = report.split("<testcase").skip(1);
    elements
        .map(|e| {
            let e = e.split("</testcase>").next().unwrap_or_default();
            let name = format!("{} {}", attribute(e, "package"), attribute(e, "classname"));
            (name, !e.contains("<failure") && !e.contains("<error"))
        })
        .collect()
}
