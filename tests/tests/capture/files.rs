//! FTP through captured sidecars: the server greets, and says in that conversation which port the bytes of each file take.
//! A Service has to say these ports too, or nobody knows whose they are.

use crate::{
    Pods,
    wire::{Tap, tls13_only},
};
use std::path::Path;
use weir_tests::peers;

/// The address of the Service.
const FILES: &str = "10.96.0.8";

/// Where a server listens of which all ports are declared, and where one of which only this is.
const WHOLE: u16 = 2121;
const HALF: u16 = 2122;

/// What is carried each time; some of it is seen on the wire, or none.
const BYTES: usize = 3 << 20;

const DOCUMENTS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: files}
spec:
  clusterIP: 10.96.0.8
  selector: {app: server}
  ports:
  - {name: ftp, port: 2121}
  - {name: data-0, port: 2130, appProtocol: tcp}
  - {name: data-1, port: 2131, appProtocol: tcp}
  - {name: data-2, port: 2132, appProtocol: tcp}
  - {name: half, port: 2122}
---
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: who-is-known}
spec:
  targetRefs: [{kind: Service, name: files}]
  action: Allow
  rules:
  - from: [{serviceAccounts: [client]}]
";

#[tokio::test]
async fn files_come_and_go_by_ftp_on_the_ports_that_are_declared() {
    let (Some(curl), Some(tcpdump), Some(_)) =
        (peers::find("curl"), peers::find("tcpdump"), peers::python_with("pyftpdlib"))
    else {
        return;
    };
    let Some(mut pods) = Pods::start(false, DOCUMENTS).await else { return };
    let page: Vec<u8> = b"scratchless\n".iter().copied().cycle().take(BYTES).collect();
    serve(&mut pods, &page).await;
    let tap = Tap::start(&tcpdump, pods.mesh.folder.path()).await;
    declared(&pods, &curl, &page).await;
    let words = ["scratchless", "229 Entering", "227 Entering", "anonymous", "pyftpdlib"];
    tls13_only(&tap.stop().await, pods.client.v4, pods.server.v4, &words);
    told(&pods).await;
    undeclared(&pods, &curl).await;
    excluded(&pods, &curl, &page).await;
}

/// Two servers, with the same folder.
async fn serve(pods: &mut Pods, page: &[u8]) {
    let folder = pods.mesh.folder.path().to_owned();
    let shared = folder.join("files");
    std::fs::create_dir_all(&shared).expect("a folder");
    std::fs::write(shared.join("page"), page).expect("a file");
    let shared = shared.to_str().expect("a name");
    for (port, data) in [(WHOLE, "2130-2132"), (HALF, "2140-2142")] {
        let name = format!("ftp-{port}");
        let port = port.to_string();
        let arguments = ["-m", "pyftpdlib", "-i", "0.0.0.0", "-p", &port, "-r", data, "-w", "-d", shared];
        pods.applications.push(pods.server.start(&name, &folder, &pods.python, &arguments));
    }
    pods.listening(&[WHOLE, HALF]).await;
}

/// By the Service and by the instance; down and up; asked in the new way (EPSV) and in the old one (PASV).
async fn declared(pods: &Pods, curl: &Path, page: &[u8]) {
    let folder = pods.mesh.folder.path();
    let come = folder.join("come");
    let to = come.to_str().expect("a name");
    for host in [FILES.to_owned(), pods.server.v4.to_string()] {
        for how in ["--epsv", "--disable-epsv"] {
            let uri = format!("ftp://{host}:{WHOLE}/page");
            pods.call(curl, &["-sSf", "-m", "20", how, "-o", to, &uri]).await;
            assert!(std::fs::read(&come).expect("a file") == page, "{uri} {how}: another file");
            std::fs::remove_file(&come).expect("it goes");
        }
    }
    let from = folder.join("files/page");
    let uri = format!("ftp://{FILES}:{WHOLE}/gone");
    pods.call(curl, &["-sSf", "-m", "20", "-T", from.to_str().expect("a name"), &uri]).await;
    assert!(std::fs::read(folder.join("files/gone")).expect("a file") == page, "another file");
    let names = pods.call(curl, &["-sSf", "-m", "20", "-l", &format!("ftp://{FILES}:{WHOLE}/")]).await;
    assert_eq!(names.split_whitespace().collect::<std::collections::BTreeSet<_>>(), ["gone", "page"].into());
}

/// The conversation was told by the server's greeting; files are the service's, and the caller is known.
async fn told(pods: &Pods) {
    let metrics = pods.metrics(&pods.client).await;
    for line in [
        "weir_protocol_detect_total{direction=\"outbound\",result=\"bytes\",method=\"server_first\"} 6",
        "weir_tcp_destination_bytes_total{destination=\"files.default.svc.cluster.local:2121\"",
        "weir_tcp_destination_bytes_total{destination=\"files.default.svc.cluster.local:213",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    assert!(!metrics.contains("method=\"passthrough\""), "{metrics}");
    let metrics = pods.metrics(&pods.server).await;
    let allowed = "weir_authz_total{decision=\"allow\",policy=\"default/who-is-known\"} 12\n";
    assert!(metrics.contains(allowed), "each conversation and each file is let in by its caller's name: {metrics}");
}

/// Where only the conversation is declared, it is held, and no file comes: a strict sidecar lets nobody in to a port that is
/// nobody's. Nor where the server is to call the client.
async fn undeclared(pods: &Pods, curl: &Path) {
    let uri = format!("ftp://{}:{HALF}/page", pods.server.v4);
    let said = pods.call(curl, &["-sSvf", "-m", "10", "-I", &uri]).await;
    assert!(said.contains(&format!("Content-Length: {BYTES}")), "{said}");
    let (content, said) = pods.client.run(curl, &["-sSv", "-m", "5", "-o", "/dev/null", &uri]).await;
    assert!(!content && said.contains("229 Entering"), "{said}");
    // Bytes that go up are refused when the first is seen.
    let page = pods.mesh.folder.path().join("files/page");
    let up = format!("ftp://{}:{HALF}/up", pods.server.v4);
    let (content, said) = pods.client.run(curl, &["-sS", "-m", "5", "-T", page.to_str().expect("a name"), &up]).await;
    assert!(!content, "{said}");
    assert!(pods.metrics(&pods.client).await.contains("method=\"passthrough\""), "carried as it is by the caller's");
    let (content, said) = pods.client.run(curl, &["-sSv", "-m", "5", "-P", "-", "-o", "/dev/null", &uri]).await;
    assert!(!content && said.contains("foreign"), "{said}");
}

/// As `docs/capture.md` says it: the conversation and the files, on both sides; then it is as without a mesh.
async fn excluded(pods: &Pods, curl: &Path, page: &[u8]) {
    pods.client.capture(&["--exclude-outbound-ports", "2122,2140-2142"]).await;
    pods.server.capture(&["--exclude-inbound-ports", "2122,2140-2142"]).await;
    let uri = format!("ftp://{}:{HALF}/page", pods.server.v4);
    let come = pods.mesh.folder.path().join("come");
    pods.call(curl, &["-sSf", "-m", "20", "-o", come.to_str().expect("a name"), &uri]).await;
    assert!(std::fs::read(&come).expect("a file") == page, "another file");
}
