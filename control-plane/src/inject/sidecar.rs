//! The sidecar's containers and volumes: with no right at all, but for the one that captures, which ends before any other
//! container begins.

use super::{
    Given,
    names::{
        CAPTURED, CONFIG_MAP, HEALTH, INBOUND, INIT, METRICS, PROXY, ROOTS, ROOTS_AT, ROOTS_FILE, SIDECAR, STATE,
        STATE_AT, TOKEN, TOKEN_AT,
    },
    patch::Patch,
    probes::Probes,
    read,
    status::Status,
    wishes::{Capture, Wishes, is_guaranteed},
};
use serde_json::{Map, Value, json};

/// The time that Kubernetes gives a pod to end, where it does not say.
const GRACE: u64 = 30;
/// What remains of it after the sidecar's own end.
const MARGIN: u64 = 2;
/// A sidecar is given so many seconds to become ready; then its container is started anew.
const START: u32 = 120;

/// Adds them.
pub(super) fn add(
    patch: &mut Patch,
    status: &mut Status,
    given: &Given<'_>,
    wishes: &Wishes,
    probes: &Probes,
    ends_with_job: bool,
) {
    let proxy = proxy(given, wishes, probes, ends_with_job);
    let init = (wishes.capture == Capture::Transparent).then(|| init(given, wishes, probes));
    if wishes.native {
        // Capture first, then the sidecar, then whatever else comes first: that has a network already.
        let first = init.into_iter().chain([proxy]).enumerate();
        first.for_each(|(n, container)| patch.insert("/spec/initContainers", n, container));
    } else {
        // What comes first is gone before the sidecar begins, and has the network as it is: capture comes last.
        if let Some(init) = init {
            patch.push("/spec/initContainers", init);
        }
        // The first of the containers, since the others are started when its hook has returned.
        patch.insert("/spec/containers", 0, proxy);
    }
    if wishes.capture == Capture::Transparent {
        status.container(INIT);
    }
    status.container(PROXY);
    for volume in volumes(given) {
        status.volume(read::name(&volume));
        patch.push("/spec/volumes", volume);
    }
}

fn proxy(given: &Given<'_>, wishes: &Wishes, probes: &Probes, ends_with_job: bool) -> Value {
    let mut container = json!({
        "name": PROXY,
        "image": wishes.proxy_image,
        "env": environment(given, wishes, probes, ends_with_job),
        "ports": [
            { "name": "weir-inbound", "containerPort": INBOUND, "protocol": "TCP" },
            { "name": "weir-metrics", "containerPort": METRICS, "protocol": "TCP" },
            { "name": "weir-health", "containerPort": HEALTH, "protocol": "TCP" },
        ],
        // Ready is configured, certified, listening and, where that is to be, capturing.
        "startupProbe": probe("/readyz", 1, START),
        "readinessProbe": probe("/readyz", 5, 3),
        "livenessProbe": probe("/livez", 10, 6),
        "resources": resources(given.pod, wishes),
        "securityContext": security(SIDECAR, &[]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            { "name": ROOTS, "mountPath": ROOTS_AT, "readOnly": true },
            { "name": TOKEN, "mountPath": TOKEN_AT, "readOnly": true },
            { "name": STATE, "mountPath": STATE_AT },
        ],
    });
    let own = &mut container;
    if wishes.native {
        own["restartPolicy"] = json!("Always");
    } else {
        // Holds the application back until there is somebody to speak to.
        own["lifecycle"] = json!({ "postStart": { "exec": { "command": ["/weir-proxy", "--await-ready", "60"] } } });
    }
    pull_policy(own, given);
    container
}

fn init(given: &Given<'_>, wishes: &Wishes, probes: &Probes) -> Value {
    let mut skipped: Vec<String> = wishes.skip_inbound_ports.split(',').map(Into::into).collect();
    skipped.extend(probes.https.iter().map(ToString::to_string));
    skipped.retain(|port| !port.is_empty());
    let mut args = vec![];
    for (flag, value) in [
        ("--exclude-inbound-ports", &skipped.join(",")),
        ("--exclude-outbound-ports", &wishes.skip_outbound_ports),
        ("--exclude-outbound-ranges", &wishes.skip_subnets),
    ] {
        if !value.is_empty() {
            args.push(format!("{flag}={value}"));
        }
    }
    let mut container = json!({
        "name": INIT,
        "image": wishes.init_image,
        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
        "securityContext": security(0, &["NET_ADMIN"]),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if is_guaranteed(given.pod) {
        let size = json!({ "cpu": "100m", "memory": "32Mi" });
        container["resources"] = json!({ "requests": size, "limits": size });
    }
    if !args.is_empty() {
        container["args"] = json!(args);
    }
    pull_policy(&mut container, given);
    container
}

/// How every container of ours runs.
pub(super) fn security(user: i64, rights: &[&str]) -> Value {
    let mut capabilities = json!({ "drop": ["ALL"] });
    if !rights.is_empty() {
        capabilities["add"] = json!(rights);
    }
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": capabilities,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": user,
        "runAsNonRoot": user != 0,
        "runAsUser": user,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

pub(super) fn pull_policy(container: &mut Value, given: &Given<'_>) {
    if !given.settings.image_pull_policy.is_empty() {
        container["imagePullPolicy"] = json!(given.settings.image_pull_policy);
    }
}

fn environment(given: &Given<'_>, wishes: &Wishes, probes: &Probes, ends_with_job: bool) -> Value {
    let settings = given.settings;
    let text = |name: &str, value: &str| json!({ "name": name, "value": value });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut all = vec![
        text("WEIR_CONTROL_PLANE", &settings.control_plane),
        text("WEIR_CONTROL_PLANE_ROOTS", &format!("{ROOTS_AT}/{ROOTS_FILE}")),
        text("WEIR_TRUST_DOMAIN", &settings.trust_domain),
        text("WEIR_TOKEN_FILE", &format!("{TOKEN_AT}/token")),
        field("WEIR_NAMESPACE", "metadata.namespace"),
        field("WEIR_WORKLOAD", "metadata.name"),
        field("WEIR_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        // Kubernetes copies them from the node where it does; elsewhere they are empty.
        field("WEIR_REGION", "metadata.labels['topology.kubernetes.io/region']"),
        field("WEIR_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
        text("WEIR_STATE_DIRECTORY", STATE_AT),
        text("WEIR_WORKERS", &workers(wishes).to_string()),
        text("WEIR_DRAIN_SECONDS", &drain(given.pod, wishes).to_string()),
        text("WEIR_LOG", &wishes.log),
        text("WEIR_LOG_FORMAT", &wishes.log_format),
        text("WEIR_ACCESS_LOG", &wishes.access_log),
    ];
    if !settings.control_plane_name.is_empty() {
        all.push(text("WEIR_CONTROL_PLANE_NAME", &settings.control_plane_name));
    }
    if wishes.capture == Capture::Transparent {
        all.push(text("WEIR_CAPTURE", &CAPTURED.to_string()));
        // Where nothing is captured, the kubelet reaches the application itself.
        if !probes.all.is_empty() {
            all.push(text("WEIR_PROBES", &probes.all.join(" ")));
        }
    }
    if ends_with_job {
        all.push(text("WEIR_ALLOW_QUIT", "true"));
    }
    Value::Array(all)
}

/// One thread, more only where more processors may be used.
fn workers(wishes: &Wishes) -> u64 {
    let limit = match wishes.cpu_limit.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().unwrap_or(0.0) / 1000.0,
        None => wishes.cpu_limit.parse::<f64>().unwrap_or(0.0),
    };
    // Never more threads than processors: what is over the limit is throttled.
    (limit.floor() as u64).clamp(1, 16)
}

/// The sidecar has to be done before the pod is killed.
fn drain(pod: &Value, wishes: &Wishes) -> u64 {
    let grace = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(GRACE);
    wishes.grace.unwrap_or_else(|| grace.saturating_sub(MARGIN).clamp(1, GRACE))
}

fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({ "httpGet": { "path": path, "port": HEALTH }, "periodSeconds": period, "failureThreshold": failures })
}

fn resources(pod: &Value, wishes: &Wishes) -> Value {
    // Beside a container without limits a pod is no longer `Guaranteed`, and is evicted sooner.
    if !wishes.sized && is_guaranteed(pod) {
        let size = json!({ "cpu": "100m", "memory": "128Mi" });
        return json!({ "requests": size, "limits": size });
    }
    let of = |cpu: &str, memory: &str| {
        let named = [("cpu", cpu), ("memory", memory)].into_iter().filter(|(_, value)| !value.is_empty());
        named.map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>()
    };
    let (requests, limits) =
        (of(&wishes.cpu_request, &wishes.memory_request), of(&wishes.cpu_limit, &wishes.memory_limit));
    let mut resources = Map::new();
    for (name, map) in [("requests", requests), ("limits", limits)] {
        if !map.is_empty() {
            resources.insert(name.into(), Value::Object(map));
        }
    }
    Value::Object(resources)
}

fn volumes(given: &Given<'_>) -> [Value; 3] {
    let settings = given.settings;
    let token = json!({
        "audience": settings.token_audience,
        "expirationSeconds": settings.token_seconds.max(600),
        "path": "token",
    });
    [
        json!({ "name": ROOTS, "configMap": { "name": CONFIG_MAP } }),
        json!({ "name": TOKEN, "projected": { "sources": [{ "serviceAccountToken": token }] } }),
        // The certificate's key is in memory only.
        json!({ "name": STATE, "emptyDir": { "medium": "Memory", "sizeLimit": "16Mi" } }),
    ]
}
