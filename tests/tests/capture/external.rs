//! Hosts outside the mesh, known by their names: a TLS server name, a `Host`, or an address that a sidecar gives for them;
//! and nothing else may be called where only what is known may.

use crate::{Pods, RESOLVER, names::resolver, peer};
use std::path::Path;
use weir_tests::{eventually, peers, pods::Pod, process::Process};

/// The fourth pod's.
const OUTSIDE: &str = "10.9.0.5";

const DOCUMENTS: &str = "---
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: api}
spec:
  hosts: [api.example, gone.example, '*.files.example']
  ports: [{port: 80, protocol: HTTP}, {port: 443, protocol: TLS}]
---
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: db}
spec: {hosts: [db.example], ports: [{port: 7777, protocol: TCP}]}
---
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: other-db}
spec: {hosts: [other-db.example], ports: [{port: 7777, protocol: TCP}], addresses: [10.9.0.6]}
---
apiVersion: weir.dev/v1alpha1
kind: ExternalService
metadata: {name: fixed}
spec: {hosts: [fixed.example], ports: [{port: 443, protocol: TLS}], addresses: [10.9.0.5]}
---
apiVersion: weir.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {outboundTrafficPolicy: {mode: RegistryOnly}}
";

/// The fifth pod's.
const ELSEWHERE: &str = "10.9.0.6";

/// Everything that is started outside.
struct Outside {
    pod: Pod,
    _other: Pod,
    _resolver: (Pod, Process),
    _servers: Vec<Process>,
}

async fn outside(pods: &mut Pods, dnsmasq: &Path, openssl: &Path) -> Outside {
    let records = ["--address=/example/10.9.0.5", "--address=/gone.example/", "--address=/fixed.example/"];
    let resolver = resolver(pods, dnsmasq, &records).await;
    let folder = pods.mesh.folder.path().to_owned();
    let pod = pods.network.pod("outside", &folder);
    let other = pods.network.pod("elsewhere", &folder);
    assert_eq!((&*pod.v4.to_string(), &*other.v4.to_string()), (OUTSIDE, ELSEWHERE));
    let (key, certificate) = (folder.join("out.key"), folder.join("out.pem"));
    let (key, certificate) = (key.to_str().expect("a name"), certificate.to_str().expect("a name"));
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    pod.must(openssl, &[&new[..], &["-subj", "/CN=the outside", "-keyout", key, "-out", certificate]].concat()).await;
    let tls = ["s_server", "-quiet", "-www", "-accept", "10.9.0.5:443", "-key", key, "-cert", certificate];
    let web = folder.join("web");
    std::fs::create_dir_all(&web).expect("a folder");
    std::fs::write(web.join("page"), "outside\n").expect("a file");
    let web = web.to_str().expect("a name");
    let servers = vec![
        pod.start("tls", &folder, openssl, &tls),
        pod.start("http", &folder, &pods.python, &["-m", "http.server", "80", "--bind", OUTSIDE, "-d", web]),
        pod.start("echo", &folder, &pods.python, &[&peer("captured_peer.py"), "serve-on", OUTSIDE, "7777"]),
        other.start("other", &folder, &pods.python, &["-m", "http.server", "7777", "--bind", ELSEWHERE, "-d", web]),
    ];
    let see = "import socket, sys; [socket.create_connection((sys.argv[1], int(p))) for p in sys.argv[2:]]";
    eventually("all of them listen", 30, || async {
        pod.run(&pods.python, &["-c", see, OUTSIDE, "80", "443", "7777"]).await.0.then_some(())
    })
    .await;
    eventually("the other listens", 30, || async {
        other.run(&pods.python, &["-c", see, ELSEWHERE, "7777"]).await.0.then_some(())
    })
    .await;
    Outside { pod, _other: other, _resolver: resolver, _servers: servers }
}

/// Calls with names that this resolver answers.
async fn curl(pods: &Pods, curl: &Path, arguments: &[&str]) -> (bool, String) {
    let file = pods.mesh.folder.path().join("resolv.client");
    std::fs::write(&file, format!("nameserver {RESOLVER}\n")).expect("a file");
    let script = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", file.display());
    let usual = ["-m", "--", "sh", "-c", &script, "sh", curl.to_str().expect("a name"), "-4ksSv", "-m", "15"];
    pods.client.run("unshare", &[&usual[..], arguments].concat()).await
}

#[tokio::test]
async fn hosts_are_known_by_their_names_and_no_others_may_be_called() {
    let (Some(dnsmasq), Some(openssl), Some(program)) =
        (peers::find("dnsmasq"), peers::find("openssl"), peers::find("curl"))
    else {
        return;
    };
    let Some(mut pods) = Pods::start(false, DOCUMENTS).await else { return };
    let outside = outside(&mut pods, &dnsmasq, &openssl).await;
    let call = async |arguments: &[&str]| curl(&pods, &program, arguments).await;
    // By the server name, which alone decides: the second comes with an address that leads nowhere.
    for arguments in [
        &["https://api.example/"][..],
        &["--resolve", "x.files.example:443:192.0.2.1", "https://x.files.example/"],
        // Not in any resolver, but in the document.
        &["https://fixed.example/"],
    ] {
        let (content, said) = call(arguments).await;
        assert!(content && said.contains("the outside"), "{arguments:?}: {said}\n{}", pods.sidecars[0].log());
    }
    // By the Host, also where the address is another's.
    for arguments in [
        &["http://api.example/page"][..],
        &["--resolve", "y.files.example:80:192.0.2.1", "http://y.files.example/page"],
    ] {
        let (content, said) = call(arguments).await;
        assert!(content && said.contains("outside\n"), "{arguments:?}: {said}\n{}", pods.sidecars[0].log());
    }
    for arguments in [
        &["https://other.example/"][..],
        &["http://other.example/page"],
        &["https://10.9.0.5/"],
        &["http://10.9.0.5/page"],
        // Who is known on one port is not on another.
        &["http://api.example:7777/"],
        // The address of one that may be called, and the name of one that may not.
        &["--resolve", "other.example:443:10.9.0.5", "https://other.example/"],
    ] {
        let (content, said) = call(arguments).await;
        assert!(!content && !said.contains("the outside"), "{arguments:?}: {said}");
    }
    // TLS where HTTP is declared.
    let (content, said) = call(&["https://api.example:80/"]).await;
    assert!(!content, "{said}");
    // Bytes say no name: the host has an address of its own.
    bytes(&pods).await;
    let (content, _) = call(&["--resolve", "gone.example:443:10.9.0.5", "https://gone.example/"]).await;
    assert!(!content, "where it is, is for the resolver to say");
    told(&pods).await;
    policies(&pods, &program).await;
    drop(outside.pod);
}

async fn bytes(pods: &Pods) {
    let db = found(pods, "db.example").await;
    assert!(db.starts_with("240."), "{db}");
    assert_eq!(pods.plain(&["half", &db, "7777"]).await.trim(), "all came back");
    // Another on the same port is another, whoever was called first.
    let other = found(pods, "other-db.example").await;
    assert_ne!(db, other);
    let ask = "HEAD /page HTTP/1.0\r\n\r\n";
    for _ in 0..2 {
        assert!(pods.plain(&["first", &other, "7777", ask]).await.starts_with("HTTP/1.0 200"));
        assert_eq!(pods.plain(&["first", &db, "7777", ask]).await.replace("\r\n", "").trim(), "HEAD /page HTTP/1.0");
    }
}

/// What a name means to a program in the client's pod.
async fn found(pods: &Pods, name: &str) -> String {
    let find = format!("import socket; print(socket.getaddrinfo('{name}', 7777, socket.AF_INET)[0][4][0])");
    let file = pods.mesh.folder.path().join("resolv.client");
    let script = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", file.display());
    let python = pods.python.to_str().expect("a name");
    let address = pods.call("unshare", &["-m", "--", "sh", "-c", &script, "sh", python, "-c", &find]).await;
    address.trim().to_owned()
}

async fn told(pods: &Pods) {
    let metrics = pods.metrics(&pods.client).await;
    for line in [
        "weir_tcp_destination_bytes_total{destination=\"api.example:443\"",
        "weir_tcp_destination_bytes_total{destination=\"x.files.example:443\"",
        "weir_tcp_destination_bytes_total{destination=\"db.example:7777\"",
        "destination=\"api.example:80\",route=\"default\"",
        "weir_protocol_detect_total{direction=\"outbound\",result=\"tls\",method=\"client_bytes\"} 5",
        "weir_connections_refused_total{direction=\"outbound\",reason=\"bytes_refused\"} 1",
        "weir_connections_refused_total{direction=\"outbound\",reason=\"route_not_found\"} 6",
        "weir_connections_refused_total{direction=\"outbound\",reason=\"name_unresolved\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}\n{}", pods.sidecars[0].log());
    }
}

/// What a TrafficPolicy says holds; and where everything may be called, names still lead where they are known.
async fn policies(pods: &Pods, program: &Path) {
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: api}\n\
                  spec: {targetRefs: [{kind: ExternalService, name: api}], fault: {abort: {httpStatus: 418}}}\n";
    pods.mesh.apply(policy).await;
    eventually("the policy holds", 20, || async {
        curl(pods, program, &["http://api.example/page"]).await.1.contains("HTTP/1.1 418 ").then_some(())
    })
    .await;
    let open = "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {name: mesh}\n\
                spec: {outboundTrafficPolicy: {mode: AllowAny}}\n";
    pods.mesh.apply(open).await;
    eventually("the world is open", 20, || async {
        curl(pods, program, &["https://other.example/"]).await.1.contains("the outside").then_some(())
    })
    .await;
    let (_, said) = curl(pods, program, &["http://api.example/page"]).await;
    assert!(said.contains("HTTP/1.1 418 "), "{said}");
    let (content, said) = curl(pods, program, &["http://other.example/page"]).await;
    assert!(content && said.contains("outside\n") && !said.contains("418"), "{said}");
}
