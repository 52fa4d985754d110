//! Names: services are reached by theirs with no resolver in the world, and all other names are the machine's resolver's
//! to say, whose answers arrive as they are.

use crate::{ECHO, HTTP, Pods, RESOLVER, V4, V6, peer};
use std::path::Path;
use weir_tests::{
    eventually, peers,
    pods::{Pod, SIDECAR},
    process::Process,
};

/// A headless service of two, one without any address, and a namespace of its own for one more.
const DOCUMENTS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: alone}
spec: {clusterIP: None, selector: {app: server}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: bare}
spec: {selector: {app: server}, ports: [{name: web, port: 80, targetPort: 8080}, {name: echo, port: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: elsewhere}
spec: {clusterIP: 10.96.0.99, selector: {app: nobody}, ports: [{port: 80}]}
";

/// What a pod of Kubernetes has; the address is nobody's.
const SEARCH: &str =
    "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\nnameserver 10.96.0.10\n";

/// Runs a program in a pod where `/etc/resolv.conf` is this.
async fn with(pods: &Pods, conf: &str, program: &str, arguments: &[&str]) -> (bool, String) {
    let file = pods.mesh.folder.path().join(format!("resolv-{}", conf.len()));
    std::fs::write(&file, conf).expect("a file");
    let script = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", file.display());
    let all = [&["-m", "--", "sh", "-c", &script, "sh", program], arguments].concat();
    pods.client.run("unshare", &all).await
}

/// The addresses that a plain program gets for a name.
async fn addresses(pods: &Pods, conf: &str, name: &str) -> Vec<String> {
    let (_, said) = with(pods, conf, "getent", &["ahosts", name]).await;
    let mut all: Vec<_> = said.lines().filter_map(|l| Some(l.split(' ').next()?.to_owned())).collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn services_are_reached_by_name_with_no_resolver_in_the_world() {
    let Some(curl) = peers::find("curl") else { return };
    let Some(pods) = Pods::start(false, DOCUMENTS).await else { return };
    pods.listening(&[HTTP, ECHO]).await;
    let alone = "nameserver 10.96.0.10\n";
    for (conf, name) in [
        (alone, "server"),
        (alone, "server.default"),
        (alone, "server.default.svc"),
        (alone, "Server.Default.svc.cluster.local."),
        (SEARCH, "server"),
        (SEARCH, "server.default"),
        (SEARCH, "server.default.svc"),
        // Over IPv6, too, and where nothing is said at all: the resolver is this machine then.
        ("nameserver fd96::10\n", "server"),
        ("# none\n", "server"),
    ] {
        assert_eq!(addresses(&pods, conf, name).await, [V4, V6], "{name} with {conf}\n{}", pods.sidecars[0].log());
    }
    assert_eq!(addresses(&pods, SEARCH, "far.elsewhere").await, ["10.96.0.99"], "one family only");
    // Headless: the instances; one of them by its own name.
    let server = pods.server.v4.to_string();
    for name in ["alone", "server-1.alone", "server-1.alone.default.svc.cluster.local"] {
        assert_eq!(addresses(&pods, SEARCH, name).await, [&*server], "{name}");
    }
    // Without any address: one that is given here leads to it, in both families.
    let given = addresses(&pods, alone, "bare").await;
    assert!(given.len() == 2 && given[0].starts_with("240.") && given[1].starts_with("fd57:"), "{given:?}");
    for (family, uri) in [("-4", "http://bare/x"), ("-6", "http://bare/x"), ("-4", "http://server:8080/x")] {
        let (content, said) =
            with(&pods, SEARCH, curl.to_str().expect("a name"), &["-sSf", "-m", "20", family, uri]).await;
        assert!(content && said == "GET /x scratchless\n", "{uri}: {said}\n{}", pods.sidecars[0].log());
    }
    let echo = pods.plain(&["half", &given[0], &ECHO.to_string()]).await;
    assert_eq!(echo.trim(), "all came back");
    // A port that it does not have leads nowhere, at once.
    let (content, said) = pods.try_plain(&["first", &given[0], "81", "x"]).await;
    assert!(!content && said.contains("reset"), "{said}");
    let metrics = pods.metrics(&pods.client).await;
    assert!(metrics.contains("weir_dns_answers_total{by=\"mesh\"}") && metrics.contains("weir_dns_inflight 0"));
    assert!(metrics.contains("destination=\"bare.default.svc.cluster.local:80\""), "{metrics}");
}

/// A real resolver in the pod whose address sidecars have for one.
pub async fn resolver(pods: &mut Pods, dnsmasq: &Path, lines: &[&str]) -> (Pod, Process) {
    let folder = pods.mesh.folder.path().to_owned();
    let pod = pods.network.pod("resolver", &folder);
    assert_eq!(pod.v4.to_string(), RESOLVER);
    let quiet = ["-k", "-R", "-h", "-C", "/dev/null", "--log-facility=-", "-q", "-u", "root", "--edns-packet-max=4096"];
    let process = pod.start("dnsmasq", &folder, dnsmasq, &[&quiet[..], lines].concat());
    (pod, process)
}

#[tokio::test]
async fn all_other_names_are_the_resolver_s_to_say_byte_for_byte() {
    let Some(dnsmasq) = peers::find("dnsmasq") else { return };
    let Some(mut pods) = Pods::start(false, DOCUMENTS).await else { return };
    let long = "--txt-record=long.example".to_owned() + &format!(",{}", "x".repeat(200)).repeat(10);
    let lines = [
        "--host-record=api.example,192.0.2.7,2001:db8::7",
        "--cname=other.example,api.example",
        "--srv-host=_http._tcp.web.example,server.example,8080",
        "--host-record=server.example,192.0.2.8",
        &long,
    ];
    let (_pod, process) = resolver(&mut pods, &dnsmasq, &lines).await;
    let script = peer("dns_peer.py");
    let python = pods.python.clone();
    let sidecar = SIDECAR.to_string();
    // The sidecar's user is not captured: it hears the resolver itself.
    let as_it_is = async |arguments: &[&str]| {
        let who = ["--reuid", &sidecar, "--regid", &sidecar, "--clear-groups", "--", python.to_str().expect("a name")];
        pods.client.run("setpriv", &[&who[..], &[script.as_str()], arguments].concat()).await
    };
    eventually("the resolver answers", 20, || async {
        as_it_is(&["ask", "0", RESOLVER, "udp", "api.example", "1"]).await.0.then_some(())
    })
    .await;
    let (a, aaaa, txt, srv, ptr, https) = ("1", "28", "16", "33", "12", "65");
    let mut truncated = 0;
    // Each has its own, below those that the kernel gives out: none meets a translation that another has left.
    let mut port = 20_000;
    for (name, kind) in [
        ("api.example", a),
        ("API.example", aaaa),
        ("other.example", a),
        ("nobody.example", a),
        ("_http._tcp.web.example", srv),
        ("7.2.0.192.in-addr.arpa", ptr),
        ("api.example", https),
        ("server.example", a),
        ("long.example", txt),
    ] {
        for (over, room) in [("udp", None), ("udp", Some("1232")), ("udp", Some("4096")), ("tcp", None)] {
            let mut arguments = vec![RESOLVER, over, name, kind];
            arguments.extend(room);
            port += 1;
            let own = port.to_string();
            let captured = pods.client.run(&python, &[&[script.as_str(), "ask", &own], &arguments[..]].concat()).await;
            let direct = as_it_is(&[&["ask", "0"], &arguments[..]].concat()).await;
            assert!(direct.0 && captured.0, "{arguments:?}\n{}\n{}\n{}", direct.1, captured.1, process.log());
            assert_eq!(direct.1, captured.1, "{arguments:?}");
            // The header's flags: 0x02 in the third byte.
            truncated += usize::from(u8::from_str_radix(&captured.1[4..6], 16).expect("digits") & 2 != 0);
        }
    }
    assert_eq!(truncated, 2, "without room, and with too little");
    let metrics = pods.metrics(&pods.client).await;
    assert!(metrics.contains("weir_dns_answers_total{by=\"upstream\"} 36"), "{metrics}");
    assert!(!metrics.contains("weir_dns_answers_total{by=\"mesh\"} 1"), "{metrics}");
    // Names of the mesh go no further, whoever else has them.
    assert_eq!(addresses(&pods, SEARCH, "server").await, [V4, V6]);
    assert_eq!(addresses(&pods, SEARCH, "far").await, [""; 0], "not of this namespace");
    assert_eq!(addresses(&pods, SEARCH, "api.example").await, ["192.0.2.7", "2001:db8::7"], "after the search list");
}

#[tokio::test]
async fn a_dead_resolver_gives_an_answer_in_bounded_time_and_harms_no_name_of_the_mesh() {
    let Some(pods) = Pods::start(false, DOCUMENTS).await else { return };
    let script = peer("dns_peer.py");
    let ask = async |arguments: &[&str]| {
        let said = pods.client.must(&pods.python, &[&[script.as_str()], arguments].concat()).await;
        said.split_whitespace().map(|n| n.parse::<u64>().expect("a number")).collect::<Vec<_>>()
    };
    let (dead, alive) = tokio::join!(ask(&["code", "10.96.0.10", "api.example"]), async {
        ask(&["code", "10.96.0.10", "server"]).await
    });
    assert!(dead[0] == 2 && dead[1] < 5000, "SERVFAIL, in time: {dead:?}");
    assert!(alive[0] == 0 && alive[1] < 3000, "{alive:?}");
    // More than may be under way: each is answered all the same, and nothing is kept.
    let answers = ask(&["flood", "10.96.0.10", "1500", "api.example"]).await;
    assert_eq!(answers[0], 1500);
    let metrics = pods.metrics(&pods.client).await;
    let shed = metrics.lines().find_map(|l| l.strip_prefix("weir_dns_answers_total{by=\"limit\"} "));
    assert!(shed.and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > 0), "{metrics}");
    eventually("nothing is under way", 10, || async {
        pods.metrics(&pods.client).await.contains("weir_dns_inflight 0\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn questions_may_be_left_alone() {
    let Some(pods) = Pods::start(false, DOCUMENTS).await else { return };
    for arguments in [&["--exclude-dns"][..], &["--exclude-outbound-ports", "53"]] {
        pods.client.capture(arguments).await;
        assert_eq!(addresses(&pods, "nameserver 127.0.0.1\n", "server").await, [""; 0], "{arguments:?}");
    }
    pods.client.capture(&[]).await;
    assert_eq!(addresses(&pods, "nameserver 127.0.0.1\n", "server").await, [V4, V6]);
}
