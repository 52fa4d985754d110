//! The rules themselves: what is captured and what is not, set twice, taken away, and proven before a sidecar is ready.

use crate::{ECHO as PORT, Pods, SIDECAR, V4, documents, open_to_all, peer, readiness, ready, start_sidecar};
use futures::FutureExt;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use weir_tests::{
    eventually,
    mesh::Mesh,
    peers,
    pods::{MIDDLE, Network},
    process::binaries,
};

#[tokio::test]
async fn a_sidecar_is_ready_only_when_capture_is_proven() {
    let Some(mut network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pod = network.pod("client", folder.path());
    let mesh = Mesh::start_on(MIDDLE.into(), &documents("10.9.0.9".parse().unwrap())).await;
    open_to_all(mesh.folder.path());
    let sidecar = start_sidecar(&mesh, &pod, "client-1", "client").await;
    eventually("only capture is missing", 30, || async {
        readiness(&pod).await.filter(|said| said == "not ready: traffic is not captured: weir-init has not run here")
    })
    .await;
    pod.capture(&[]).await;
    ready(&pod, || sidecar.log()).await;
}

const ECHO: &str = "import socket, sys
address = (sys.argv[2], int(sys.argv[3]))
if sys.argv[1] == 'to': peer = socket.create_connection(address)
else: peer, _ = socket.create_server(address).accept()
for data in iter(lambda: peer.recv(100), b''): peer.sendall(data)
";

async fn echoed(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut read = vec![0; text.len()];
    let all = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut read)).await;
    all.unwrap_or_else(|_| panic!("nothing comes back {text}")).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(String::from_utf8_lossy(&read), text);
}

#[tokio::test]
async fn connections_that_are_there_before_the_rules_go_on() {
    let (Some(python), Some(mut network)) = (peers::python(), Network::new()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let pod = network.pod("a", folder.path());
    let listener = TcpListener::bind((MIDDLE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let _to = pod.start("to", folder.path(), &python, &["-c", ECHO, "to", &MIDDLE.to_string(), &port]);
    let _from = pod.start("from", folder.path(), &python, &["-c", ECHO, "from", &pod.v4.to_string(), "7000"]);
    let (mut of_pod, _) = listener.accept().await.unwrap();
    let mut to_pod = eventually("the pod listens", 20, || TcpStream::connect((pod.v4, 7000)).map(Result::ok)).await;
    for when in ["before", "the first packet after comes in", "and others go out"] {
        echoed(&mut of_pod, when).await;
        echoed(&mut to_pod, when).await;
        pod.capture(&[]).await;
    }
}

const TALK: &str = "import socket, sys, time
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for n in range(30):
    peer.sendall(b'%05d' % n)
    assert peer.recv(5, socket.MSG_WAITALL) == b'%05d' % n
    time.sleep(0.1)
";

#[tokio::test]
async fn captured_connections_go_on_when_the_rules_are_set_again() {
    let Some(pods) = Pods::start(false, "").await else { return };
    pods.listening(&[PORT]).await;
    let port = PORT.to_string();
    let arguments = ["-c", TALK, V4, &port];
    let talk = pods.client.run(&pods.python, &arguments);
    let again = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(600)).await;
            pods.client.capture(&[]).await;
            pods.server.capture(&[]).await;
        }
    };
    let ((content, said), ()) = tokio::join!(talk, again);
    assert!(content, "{said}");
}

#[tokio::test]
async fn rules_are_set_twice_shown_proven_and_taken_away() {
    let Some(mut network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pod = network.pod("a", folder.path());
    let init = binaries().join("weir-init");
    let (content, said) = pod.run(&init, &["--check"]).await;
    assert!(!content && said.contains("nothing is captured here"), "{said}");
    assert_eq!(pod.capture(&[]).await, "captured: IPv4, IPv6\n");
    let once = pod.must("nft", &["list", "ruleset"]).await;
    assert_eq!(pod.capture(&[]).await, "captured: IPv4, IPv6\n");
    assert_eq!(pod.must("nft", &["list", "ruleset"]).await, once, "twice is once");
    assert_eq!(pod.capture(&["--check"]).await, "captured: IPv4, IPv6\n");
    let shown = pod.capture(&["--print", "--exclude-outbound-ports", "22,8000-8100"]).await;
    assert!(shown.contains("tcp dport { 22, 8000-8100 } return"), "{shown}");
    assert_eq!(pod.must("nft", &["list", "ruleset"]).await, once, "showing is not setting");
    // Every choice at once is something that the kernel takes.
    let all = [
        ["--exclude-uids", "5,6"],
        ["--exclude-gids", "7"],
        ["--outbound-ports", "80,8000-8100"],
        ["--exclude-outbound-ports", "22"],
        ["--outbound-ranges", "10.0.0.0/8,fd00::/8"],
        ["--exclude-outbound-ranges", "10.1.0.0/16,10.2.0.1,fd00:1::/32"],
        ["--inbound-ports", "8080"],
        ["--exclude-inbound-ports", "9090,9100-9200"],
    ];
    pod.capture(&all.concat()).await;
    for _ in 0..2 {
        pod.capture(&["--remove"]).await;
        assert_eq!(pod.must("nft", &["list", "ruleset"]).await, "", "nothing is left");
    }
}

#[tokio::test]
async fn without_the_right_to_set_rules_it_says_so() {
    let Some(mut network) = Network::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pod = network.pod("a", folder.path());
    let init = binaries().join("weir-init");
    let user = SIDECAR.to_string();
    let arguments = ["--reuid", &user, "--clear-groups", "--regid", &user, "--", init.to_str().unwrap()];
    let (content, said) = pod.run("setpriv", &arguments).await;
    assert!(!content && said.contains("Operation not permitted"), "{said}");
}

#[tokio::test]
async fn what_is_excluded_goes_its_own_way() {
    let Some(python) = peers::python() else { return };
    let Some(mut pods) = Pods::start(false, "").await else { return };
    let folder = pods.mesh.folder.path().to_owned();
    let other = pods.network.pod("other", &folder);
    let address = other.v4.to_string();
    let serve = |port: &'static str| {
        other.start(port, &folder, &python, &[&peer("captured_peer.py"), "serve-on", &address, port])
    };
    pods.applications.extend([serve("7001"), serve("7002")]);
    let counted = async |pods: &Pods| {
        let metrics = pods.metrics(&pods.client).await;
        let line = metrics.lines().find(|l| l.starts_with("weir_protocol_detect_total") && l.contains("passthrough"));
        line.and_then(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok()).unwrap_or(0)
    };
    let echoes = async |pods: &Pods, port: &str| {
        eventually(&format!("an echo of {port}"), 20, || async {
            pods.try_plain(&["first", &address, port, "x"]).await.0.then_some(())
        })
        .await;
    };
    echoes(&pods, "7001").await;
    let before = counted(&pods).await;
    assert!(before > 0, "not captured");
    pods.client.capture(&["--exclude-outbound-ports", "7002"]).await;
    echoes(&pods, "7002").await;
    assert_eq!(counted(&pods).await, before, "an excluded port was captured");
    echoes(&pods, "7001").await;
    assert_eq!(counted(&pods).await, before + 1);
}
