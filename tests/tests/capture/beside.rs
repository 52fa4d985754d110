//! Applications that do not listen on 127.0.0.1: on the pod's own address alone, as data stores do that tell each other where
//! they are, or on the loopback of IPv6 alone, as some runtimes read `localhost`.

use crate::{Pods, peer};
use weir_tests::{eventually, peers};

/// A service of such ports.
const ADDRESS: &str = "10.96.0.10";

const DOCUMENTS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: beside}
spec:
  clusterIP: 10.96.0.10
  selector: {app: server}
  ports:
  - {name: own, port: 7050, appProtocol: tcp}
  - {name: other, port: 7051, appProtocol: tcp}
  - {name: web, port: 7052, appProtocol: http}
  - {name: nobody, port: 7053, appProtocol: tcp}
";

#[tokio::test]
async fn who_listens_on_the_pod_s_own_address_or_on_the_other_loopback_is_found_and_a_kubelet_finds_him_too() {
    let Some(curl) = peers::find("curl") else { return };
    let Some(mut pods) = Pods::start_asked(false, DOCUMENTS, "http://:7052/").await else { return };
    let folder = pods.mesh.folder.path().to_owned();
    let (own, script, python) = (pods.server.v4.to_string(), peer("captured_peer.py"), pods.python.clone());
    let empty = folder.join("empty");
    std::fs::create_dir_all(&empty).expect("a folder");
    let web = ["-m", "http.server", "7052", "--bind", &own, "-d", empty.to_str().expect("a name")];
    for (name, arguments) in [
        ("own", &[&script, "serve-on", &own, "7050"][..]),
        ("other", &[&script, "serve-on", "::1", "7051"]),
        ("web", &web),
    ] {
        pods.applications.push(pods.server.start(name, &folder, &python, arguments));
    }
    for (address, port) in [(&*own, "7050"), ("::1", "7051"), (&*own, "7052")] {
        let see = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])))";
        eventually("it listens", 20, || async {
            pods.server.run(&python, &["-c", see, address, port]).await.0.then_some(())
        })
        .await;
    }
    for port in ["7050", "7051"] {
        assert_eq!(pods.plain(&["half", ADDRESS, port]).await.trim(), "all came back", "{port}");
    }
    let status = ["-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"];
    let said = pods.call(&curl, &[&status[..], &[&format!("http://{ADDRESS}:7052/")]].concat()).await;
    assert_eq!(said, "200");
    // A kubelet, which calls the pod from its node.
    let stranger = pods.network.pod("stranger", &folder);
    let said = stranger.must(&curl, &[&status[..], &[&format!("http://{own}:7052/")]].concat()).await;
    assert_eq!(said, "200");
    // Where nobody listens at all, the log says where that was seen.
    pods.try_plain(&["first", ADDRESS, "7053", "hello"]).await;
    let why = format!("nor is it taken on {own}, ::1");
    let log = || pods.sidecars[1].log();
    eventually(&why, 10, || async { log().contains(&why).then_some(()) }).await;
}
