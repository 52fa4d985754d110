//! What Services of a cluster say besides their ports: that they are another name of something, and which instances their
//! callers prefer.

use crate::control_plane::House;
use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};
use weir_tests::{
    application::Application,
    client::{get, text},
    free_port, peers,
    process::Process,
};

const NAMES: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {type: ExternalName, externalName: server.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: db.example}
---
apiVersion: v1
kind: Service
metadata: {name: around}
spec: {type: ExternalName, externalName: about.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: about}
spec: {type: ExternalName, externalName: around.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: number}
spec: {type: ExternalName, externalName: 127.0.0.1}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: other}
spec: {type: ExternalName, externalName: db.example}
";

const ONLY_KNOWN: &str = "
apiVersion: weir.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {outboundTrafficPolicy: {mode: RegistryOnly}}
";

/// Who answers to this authority: the beginning of what it says, or else the status.
async fn who(house: &House, authority: &str) -> String {
    match get(house.client.outbound, authority, "/x").await {
        Ok(answer) if answer.status() == 200 => {
            answer.headers().get("x-served-by").map(|name| name.to_str().unwrap().into()).unwrap_or_default()
        }
        Ok(answer) => answer.status().to_string(),
        Err(failure) => format!("{failure:?}"),
    }
}

/// Waits until this authority's requests go to these applications, and to no others.
async fn goes_to(house: &House, authority: &str, wanted: &[&str]) {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let mut found = Vec::new();
        for _ in 0..20 {
            found.push(who(house, authority).await);
        }
        found.sort();
        found.dedup();
        if found == wanted {
            return;
        }
        assert!(Instant::now() < limit, "{authority} goes to {found:?}, not to {wanted:?}:\n{}", house.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn another_name_of_a_service_is_that_service_and_one_of_a_host_outside_is_that_host() {
    let Some(dnsmasq) = peers::find("dnsmasq") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let mut command = std::process::Command::new(dnsmasq);
    command.args(["-k", "-R", "-h", "-C", "/dev/null", "--log-facility=-", "-a", "127.0.0.1", "-z"]);
    command.args([&format!("-p{port}"), "--host-record=db.example,127.0.0.1"]);
    let _resolver = Process::start("dnsmasq", folder.path(), &mut command);
    let conf = folder.path().join("resolv.conf");
    std::fs::write(&conf, format!("nameserver 127.0.0.1:{port}\n")).expect("a file");
    let conf = conf.to_str().expect("a name");
    let Some(house) = House::with(&["--resolv-conf", conf]).await else { return };
    let outside = Application::start("outside").await;
    let before = house.log().len();
    house.cluster.apply(NAMES).await;

    // Another name of a Service is that one: its instances, by its identity, with mutual TLS.
    goes_to(&house, "shop:8080", &["server-1"]).await;
    let metrics = text(house.client.metrics, "metrics", "/metrics").await;
    let of = |line: &&str| line.starts_with("weir_requests_total") && line.contains("tls=\"mutual\"");
    let line = metrics.lines().filter(of).find(|l| l.contains("destination=\"server.default.svc.cluster.local:8080\""));
    assert!(line.is_some() && !metrics.contains("shop."), "{metrics}");
    // One of a host outside is that host, on whatever port.
    let port = outside.address.port();
    goes_to(&house, &format!("out:{port}"), &["outside"]).await;
    goes_to(&house, &format!("server.other:{port}"), &["outside"]).await;
    // Another namespace's name is not taken.
    goes_to(&house, "server:8080", &["server-1"]).await;
    // What leads nowhere is told, or leads nowhere; and keeps nobody from anything.
    house.says(before, "`127.0.0.1` is an address, and no name").await;
    goes_to(&house, "around:8080", &["404 Not Found"]).await;
    goes_to(&house, "number:8080", &["404 Not Found"]).await;
    // Who may write Services may not thereby go where nobody has allowed it.
    house.cluster.apply(ONLY_KNOWN).await;
    goes_to(&house, &format!("out:{port}"), &["404 Not Found"]).await;
    goes_to(&house, "shop:8080", &["server-1"]).await;
    let declared = format!(
        "{{apiVersion: weir.dev/v1alpha1, kind: ExternalService, metadata: {{name: db, namespace: default}}, \
         spec: {{hosts: [db.example], ports: [{{port: {port}, protocol: HTTP}}]}}}}"
    );
    house.cluster.apply(&declared).await;
    goes_to(&house, &format!("out:{port}"), &["outside"]).await;
}

/// A pod without a sidecar that is ready at an address, and in a zone as Kubernetes says it.
async fn instance(house: &House, name: &str, at: SocketAddr) -> Application {
    let labels = format!("{{app: near, topology.kubernetes.io/zone: zone-{name}}}");
    let documents = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: near-{name}, namespace: default, labels: {labels}}}\n\
         spec:\n  containers: [{{name: app, image: 'app:1'}}]\n"
    );
    house.cluster.apply(&documents).await;
    ready(house, name, at.ip(), true).await;
    Application::on(&format!("near-{name}"), tokio::net::TcpListener::bind(at).await.expect("a port"))
}

async fn ready(house: &House, name: &str, ip: IpAddr, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    let status = format!(
        r#"{{"status":{{"phase":"Running","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
    );
    let pod = format!("near-{name}");
    house.cluster.kubectl(&["patch", "pod", &pod, "--subresource=status", "--type=merge", "-p", &status]).await;
}

/// Services over both instances; `{}`: what it says more.
fn near(more: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: near, namespace: default}}\nspec: {{selector: {{app: near}}, \
         ports: [{{port: 80, targetPort: {port}, appProtocol: http}}], trafficDistribution: {more}}}\n"
    )
}

#[tokio::test]
async fn callers_go_to_whom_is_near_or_meant_for_them() {
    let Some(house) = House::with(&[]).await else { return };
    let IpAddr::V4(own) = house.client.inbound.ip() else { return };
    let [a, b, c, _] = own.octets();
    // A port that is free at both addresses.
    let at = |last: u8, port: u16| SocketAddr::from(([a, b, c, last], port));
    let port = TcpListener::bind(at(11, 0)).and_then(|socket| socket.local_addr()).expect("a port").port();
    let _near = [instance(&house, "a", at(11, port)).await, instance(&house, "b", at(12, port)).await];
    let both = ["near-a", "near-b"];
    house.cluster.apply(&near("null", port)).await;
    goes_to(&house, "near", &both).await;
    // It is not known where the caller is: nobody is near.
    house.cluster.apply(&near("PreferSameZone", port)).await;
    goes_to(&house, "near", &both).await;
    for (zone, wanted) in [("zone-a", "near-a"), ("zone-b", "near-b")] {
        let label = format!("topology.kubernetes.io/zone={zone}");
        house.cluster.kubectl(&["label", "--overwrite", "pod", "client-1", &label]).await;
        goes_to(&house, "near", &[wanted]).await;
    }
    // Nobody near is ready: anybody, and back again.
    ready(&house, "b", at(12, port).ip(), false).await;
    goes_to(&house, "near", &["near-a"]).await;
    ready(&house, "b", at(12, port).ip(), true).await;
    goes_to(&house, "near", &["near-b"]).await;
    house.cluster.apply(&near("null", port)).await;
    goes_to(&house, "near", &both).await;

    // What a slice says goes before where an instance is; the caller is in zone-b.
    let slice = |hints: [&str; 2]| {
        // A slice may name no loopback address; a pod's own is what counts.
        let one = |last: u8, name: &str, more: &str| {
            let pod = format!("targetRef: {{kind: Pod, namespace: default, name: near-{name}}}");
            format!("{{addresses: [192.0.2.{last}], {pod}{more}}}")
        };
        let ends = [one(1, "a", hints[0]), one(2, "b", hints[1])].join(", ");
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: hinted, namespace: default}}\n\
             spec: {{trafficDistribution: PreferSameZone, ports: [{{port: 80, appProtocol: http}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: hinted-1, namespace: default, labels: {{kubernetes.io/service-name: hinted}}}}\n\
             addressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{ends}]\n"
        )
    };
    let [for_a, for_b] = ["zone-a", "zone-b"].map(|zone| format!(", hints: {{forZones: [{{name: {zone}}}]}}"));
    house.cluster.apply(&slice(["", ""])).await;
    goes_to(&house, "hinted", &["near-b"]).await;
    house.cluster.apply(&slice([&for_b, &for_a])).await;
    goes_to(&house, "hinted", &["near-a"]).await;
    // Hints hold where all have some.
    house.cluster.apply(&slice([&for_b, ""])).await;
    goes_to(&house, "hinted", &["near-b"]).await;
}
