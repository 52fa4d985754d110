//! Whether a pod gets a sidecar, and what stands in the way.

use super::{
    Given, asked,
    names::{ADMIN, AWAIT, CAPTURED, HEALTH, INBOUND, INIT, INJECTED, METRICS, OUTBOUND, PROXY, SIDECAR},
    read::{containers, list, name, port, text},
    wishes::{Capture, Wishes},
};
use serde_json::Value;

/// Why a pod stays without a sidecar: a closed list, the same words in metrics, logs and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nobody has asked for it.
    NotAskedFor,
    /// The pod or its namespace says that it wants none.
    OptedOut,
    /// It has one.
    AlreadyInjected,
    /// Istio's sidecar is there, or asked for.
    IstioSidecar,
    /// Linkerd's sidecar is there, or asked for.
    LinkerdSidecar,
    /// It shares the network of its node, where rules would turn everybody's connections.
    HostNetwork,
    /// A namespace of Kubernetes itself, or the control plane's.
    SystemNamespace,
    /// The node's own pod, which the API only mirrors: nothing can be changed there.
    MirrorPod,
    /// It runs on Windows.
    Windows,
    /// A job that would never end: no native sidecar here, and no command that could be waited for.
    JobNeedsNativeSidecar,
    /// It has no containers.
    NoContainers,
}

impl Reason {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::NotAskedFor,
        Self::OptedOut,
        Self::AlreadyInjected,
        Self::IstioSidecar,
        Self::LinkerdSidecar,
        Self::HostNetwork,
        Self::SystemNamespace,
        Self::MirrorPod,
        Self::Windows,
        Self::JobNeedsNativeSidecar,
        Self::NoContainers,
    ];

    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAskedFor => "not_asked_for",
            Self::OptedOut => "opted_out",
            Self::AlreadyInjected => "already_injected",
            Self::IstioSidecar => "istio_sidecar",
            Self::LinkerdSidecar => "linkerd_sidecar",
            Self::HostNetwork => "host_network",
            Self::SystemNamespace => "system_namespace",
            Self::MirrorPod => "mirror_pod",
            Self::Windows => "windows",
            Self::JobNeedsNativeSidecar => "job_needs_native_sidecar",
            Self::NoContainers => "no_containers",
        }
    }

    /// Whether the pod's owner would be surprised: it was asked for, and is not there.
    pub fn is_surprising(self) -> bool {
        matches!(
            self,
            Self::IstioSidecar | Self::LinkerdSidecar | Self::HostNetwork | Self::Windows | Self::JobNeedsNativeSidecar
        )
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a pod is left alone, if it is.
pub(super) fn left_alone(given: &Given<'_>) -> Option<(Reason, String)> {
    let pod = given.pod;
    // First what somebody said: a pod that nobody has asked for needs no further explanation.
    match asked::asked(given) {
        Ok(None) if !given.asked_for => {
            let detail = "neither the pod nor its namespace has the label weir.dev/inject: enabled";
            return Some((Reason::NotAskedFor, detail.into()));
        }
        Ok(Some((false, by))) => return Some((Reason::OptedOut, format!("{by} says weir.dev/inject: disabled"))),
        // What is neither is refused later, with all else that is wrong.
        _ => {}
    }
    if ["kube-system", "kube-public", "kube-node-lease"].contains(&&*given.namespace.name)
        || given.namespace.name == given.settings.namespace
    {
        let detail = format!("the namespace {} gets no sidecars", given.namespace.name);
        return Some((Reason::SystemNamespace, detail));
    }
    if text(pod, "/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Some((Reason::MirrorPod, "a node's static pod: the API shows it and cannot change it".into()));
    }
    if list(pod, "/spec/containers").is_empty() {
        return Some((Reason::NoContainers, "spec.containers is empty".into()));
    }
    let ours = |c: &&Value| [PROXY, INIT, AWAIT].contains(&name(c));
    let marked = pod.pointer("/metadata/annotations").and_then(|all| all.get(INJECTED)).is_some();
    if marked || containers(pod).any(|c| ours(&c)) {
        return Some((Reason::AlreadyInjected, "it has a sidecar of Weir's".into()));
    }
    others(pod).or_else(|| {
        if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
            return Some((Reason::HostNetwork, "spec.hostNetwork: its network is the node's".into()));
        }
        let windows = text(pod, "/spec/os/name") == Some("windows")
            || text(pod, "/spec/nodeSelector/kubernetes.io~1os") == Some("windows");
        windows.then(|| (Reason::Windows, "there is no sidecar for Windows".into()))
    })
}

/// Other meshes' sidecars: two of them would turn each other's connections.
fn others(pod: &Value) -> Option<(Reason, String)> {
    let has = |name_: &str| containers(pod).any(|c| name(c) == name_);
    let says = |key: &str, values: &[&str]| {
        let of = |at: &str| pod.pointer(at).and_then(|all| all.get(key)).and_then(Value::as_str);
        ["/metadata/labels", "/metadata/annotations"].iter().any(|at| of(at).is_some_and(|v| values.contains(&v)))
    };
    let marked = |key: &str| pod.pointer("/metadata/annotations").and_then(|all| all.get(key)).is_some();
    if has("istio-proxy") || has("istio-init") || marked("sidecar.istio.io/status") {
        return Some((Reason::IstioSidecar, "it has Istio's sidecar".into()));
    }
    if says("sidecar.istio.io/inject", &["true", "y", "yes", "on"]) {
        return Some((Reason::IstioSidecar, "it asks for Istio's sidecar (sidecar.istio.io/inject)".into()));
    }
    if has("linkerd-proxy") || has("linkerd-init") || marked("linkerd.io/proxy-version") {
        return Some((Reason::LinkerdSidecar, "it has Linkerd's sidecar".into()));
    }
    if says("linkerd.io/inject", &["enabled", "ingress"]) {
        return Some((Reason::LinkerdSidecar, "it asks for Linkerd's sidecar (linkerd.io/inject)".into()));
    }
    None
}

/// What in a pod cannot live beside a sidecar.
pub(super) fn conflicts(pod: &Value, wishes: &Wishes) -> Vec<String> {
    let mut wrong = vec![];
    let mut ours = vec![OUTBOUND, INBOUND, METRICS, HEALTH, ADMIN];
    if wishes.capture == Capture::Transparent {
        ours.push(CAPTURED);
    }
    for container in containers(pod) {
        let taken = list(container, "/ports").iter().filter_map(|p| port(p.get("containerPort")?));
        for port in taken.filter(|port| ours.contains(port)) {
            wrong.push(format!(
                "container {}: port {port} is the sidecar's; choose another port, or label the pod weir.dev/inject: disabled",
                name(container)
            ));
        }
        if wishes.capture != Capture::Transparent {
            continue;
        }
        let own = |field: &str| container.pointer(&format!("/securityContext/{field}"));
        let pods = |field: &str| pod.pointer(&format!("/spec/securityContext/{field}"));
        for (field, what) in [("runAsUser", "user"), ("runAsGroup", "group")] {
            if own(field).or_else(|| pods(field)).and_then(Value::as_i64) == Some(SIDECAR) {
                wrong.push(format!(
                    "container {}: {what} {SIDECAR} is the sidecar's, whose connections are not captured; choose another {field}",
                    name(container)
                ));
            }
        }
    }
    wrong
}
