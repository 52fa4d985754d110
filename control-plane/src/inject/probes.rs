//! The questions that the kubelet will ask a pod's containers: it has no identity, and must get through all the same, with
//! exactly these.

use super::read::{containers, list, name, port, text};
use serde_json::Value;

/// What is asked for.
pub(super) struct Probes {
    /// As the sidecar takes them: `http://:8080/healthz`, `grpc://:9090`, `tcp://:5432`. Sorted, each once.
    pub(super) all: Vec<String>,
    /// Ports that speak TLS of the application's own.
    pub(super) https: Vec<u16>,
    /// What the pod's owner should know.
    pub(super) notes: Vec<String>,
}

/// The probes of all containers, and the hooks that the kubelet calls.
pub(super) fn of(pod: &Value) -> Probes {
    let mut probes = Probes { all: vec![], https: vec![], notes: vec![] };
    for container in containers(pod) {
        for at in ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"] {
            if let Some(probe) = container.pointer(at) {
                one(container, at.trim_start_matches('/'), probe, &mut probes);
            }
        }
    }
    probes.all.sort();
    probes.all.dedup();
    probes.https.sort_unstable();
    probes.https.dedup();
    probes
}

fn one(container: &Value, what: &str, probe: &Value, probes: &mut Probes) {
    let ports = list(container, "/ports");
    // A name is one of the same container's ports.
    let port = |asked: &Value| match asked.get("port")? {
        Value::String(called) => match ports.iter().find(|p| name(p) == called) {
            Some(found) => port(found.get("containerPort")?),
            None => called.parse().ok(),
        },
        number => port(number),
    };
    // Another host than the pod is no business of its sidecar.
    let elsewhere = |asked: &Value| text(asked, "/host").is_some_and(|host| !host.is_empty());
    if let Some(asked) = probe.get("httpGet").filter(|asked| !elsewhere(asked)) {
        // As the kubelet sends it.
        let path = text(asked, "/path").unwrap_or("/").split('#').next().unwrap_or_default().replace(' ', "%20");
        let slash = if path.starts_with('/') { "" } else { "/" };
        match port(asked) {
            Some(port) if text(asked, "/scheme") == Some("HTTPS") => {
                probes.https.push(port);
                probes.notes.push(format!(
                    "container {}: {what} asks port {port} over the application's own TLS, which cannot be looked into: \
                     this port is not captured",
                    name(container)
                ));
            }
            Some(port) => probes.all.push(format!("http://:{port}{slash}{path}")),
            None => {}
        }
    }
    if let Some(port) = probe.get("grpc").and_then(port) {
        probes.all.push(format!("grpc://:{port}"));
    }
    if let Some(port) = probe.get("tcpSocket").filter(|asked| !elsewhere(asked)).and_then(port) {
        probes.all.push(format!("tcp://:{port}"));
        probes.notes.push(format!(
            "container {}: {what} only connects to port {port}: a captured connection is taken by the sidecar, whatever the \
             application does; ask over HTTP or gRPC to know more",
            name(container)
        ));
    }
}
