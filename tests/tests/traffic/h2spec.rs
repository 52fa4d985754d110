//! h2spec against the sidecar's HTTP/2 server: every case of RFC 7540 and 7541 that it knows.

use crate::{Path, path};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::net::{TcpListener, TcpStream};
use weir_tests::{anyone::Anyone, eventually, mesh::service, peers};

/// Cases that do not pass on a port that detects what is spoken, and why that is right.
const EXCEPTIONS: &[(&str, &str)] = &[(
    "http2/3.5 Sends invalid connection preface",
    "this port speaks HTTP/1 too: what is no preface is read as a request of HTTP/1, answered 400 and closed",
)];

#[tokio::test(flavor = "multi_thread")]
async fn the_http_2_server_passes_every_case() {
    let Some(h2spec) = peers::find("h2spec") else { return };
    let path = path(crate::attacks::naming().await).await;
    // The authority that h2spec asks for is where it connects to: here a service, so that its requests go all the way, and
    // nobody answers before a request has ended.
    let port = path.client.outbound.port();
    path.mesh.apply(&service("localhost", port, "http").replace("{app: localhost}", "{app: server}")).await;
    eventually("the service is known", 10, || async {
        let ask = format!("GET /known HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        (path.connect().await.ask("GET", ask).await.status() == 200).then_some(())
    })
    .await;
    let (failed, text) = run(&h2spec, &path, port).await;
    let excepted: Vec<_> = EXCEPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(failed, excepted, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_2_server_that_tls_has_agreed_on_passes_every_case_without_exception() {
    let Some(h2spec) = peers::find("h2spec") else { return };
    let path = path(crate::attacks::naming().await).await;
    let port = towards_inbound(&path).await;
    let (failed, text) = run(&h2spec, &path, port).await;
    assert!(failed.is_empty(), "{failed:?}\n{text}");
    assert!(!path.upstream.requests().is_empty(), "its requests reach the application");
}

/// Runs all cases: those that failed, and what h2spec says.
async fn run(h2spec: &std::path::Path, path: &Path, port: u16) -> (Vec<String>, String) {
    let report = path.mesh.folder.path().join("h2spec.xml");
    let mut command = tokio::process::Command::new(h2spec);
    command.args(["--host", "localhost", "--port", &port.to_string()]);
    command.args(["--timeout", "5", "--junit-report"]).arg(&report).kill_on_drop(true);
    let limit = std::time::Duration::from_secs(280);
    let output = tokio::time::timeout(limit, command.output()).await.expect("in time").expect("h2spec runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let cases = cases(&std::fs::read_to_string(&report).expect("a report"));
    assert!(cases.len() >= 140, "{} cases:\n{text}", cases.len());
    (cases.into_iter().filter(|(_, passed)| !passed).map(|(name, _)| name).collect(), text)
}

/// A port of which each connection becomes one of mutual TLS to the server's sidecar, as the client's sidecar would make
/// it, with HTTP/2 agreed on: h2spec shows no certificate.
async fn towards_inbound(path: &Path) -> u16 {
    let kept = std::fs::read(path.client.state(&path.mesh).join("identity.pem")).expect("the client's identity");
    let chain = CertificateDer::pem_slice_iter(&kept).collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(&kept).expect("a key");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_auth_cert(chain, key)
        .expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (port, inbound) = (listener.local_addr().expect("an address").port(), path.server.inbound);
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let tcp = TcpStream::connect(inbound).await?;
                let name = ServerName::try_from("8080.server.default.svc.cluster.local").expect("a name");
                let mut tls = connector.connect(name, tcp).await?;
                tokio::io::copy_bidirectional(&mut plain, &mut tls).await
            });
        }
    });
    port
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
