//! What is changed in the application's own containers: as little as can be. Where traffic is captured and sidecars are
//! native, only their end: a moment later than the pod's, in which callers learn of it.

use super::{
    Given,
    names::{AWAIT, OUTBOUND, PROGRAMS, PROGRAMS_AT},
    patch::Patch,
    read::{list, name, text},
    sidecar::{pull_policy, security},
    status::Status,
    wishes::{Capture, Wishes},
};
use serde_json::{Value, json};

/// The time that Kubernetes gives a pod to end, where it does not say.
const GRACE: u64 = 30;

/// A job's container whose end is the sidecar's.
pub(super) struct Job {
    container: String,
}

/// Which container ends the sidecar, where that has to be: in a job, beside a sidecar that does not end by itself.
///
/// # Errors
/// Why there is none.
pub(super) fn ending(pod: &Value, wishes: &Wishes) -> Result<Option<Job>, String> {
    let ends = matches!(text(pod, "/spec/restartPolicy"), Some("Never" | "OnFailure"));
    if wishes.native || !ends {
        return Ok(None);
    }
    match list(pod, "/spec/containers") {
        [one] if !list(one, "/command").is_empty() => Ok(Some(Job { container: name(one).to_owned() })),
        [one] => Err(format!(
            "its sidecar would run for ever: write the command of container {} into the pod, so that its end can be seen, \
             or use a Kubernetes with native sidecars (1.29)",
            name(one)
        )),
        _ => {
            Err("its sidecar would run for ever: of several containers none is known to be the last; use a Kubernetes \
                  with native sidecars (1.29)"
                .into())
        }
    }
}

/// Changes them.
pub(super) fn change(
    patch: &mut Patch,
    status: &mut Status,
    given: &Given<'_>,
    wishes: &Wishes,
    job: Option<Job>,
    notes: &mut Vec<String>,
) {
    if wishes.capture == Capture::Explicit {
        explicit(patch, status, wishes, notes);
    }
    hold(patch, status, given, wishes);
    if let Some(job) = job {
        wrap(patch, status, given, &job);
    }
    if !wishes.native {
        // Whoever asks for the pod's logs means the application's.
        let first = list(given.pod, "/spec/containers").first().map(name).unwrap_or_default();
        status.annotation(patch, given, "kubectl.kubernetes.io/default-container", first);
    }
}

/// Tells the application where its sidecar is. HTTP libraries know these names; both spellings, since some know one only.
fn explicit(patch: &mut Patch, status: &mut Status, wishes: &Wishes, notes: &mut Vec<String>) {
    let mut none = String::from("localhost,127.0.0.1,::1,169.254.169.254");
    if !wishes.no_proxy.is_empty() {
        none = format!("{none},{}", wishes.no_proxy);
    }
    let proxy = format!("http://127.0.0.1:{OUTBOUND}");
    let mut told = vec![];
    for at in ["/spec/initContainers", "/spec/containers"] {
        for (n, container) in list(patch.pod(), at).iter().enumerate() {
            let name = name(container);
            // Before a classic sidecar there is nobody to speak to.
            let early = at == "/spec/initContainers" && !wishes.native;
            if status.is_ours(name) || early {
                continue;
            }
            let env = list(container, "/env");
            if env.iter().any(|e| ["http_proxy", "no_proxy"].contains(&&*super::read::name(e).to_lowercase())) {
                notes.push(format!("container {name}: its environment names a proxy already, and is left as it is"));
                continue;
            }
            told.push((format!("{at}/{n}/env"), name.to_owned()));
        }
    }
    for (at, container) in told {
        for (variable, value) in
            [("HTTP_PROXY", &proxy), ("http_proxy", &proxy), ("NO_PROXY", &none), ("no_proxy", &none)]
        {
            patch.push(&at, json!({ "name": variable, "value": value }));
        }
        status.told(&container);
    }
}

/// A pod that ends is taken from its callers' lists, and its application told to end, at the same moment. The application is
/// told a little later, so that nobody calls it in vain; unless it has a hook of its own, which knows better.
fn hold(patch: &mut Patch, status: &mut Status, given: &Given<'_>, wishes: &Wishes) {
    // What ends by itself has no callers to wait for; and the wait is a part of the pod's time.
    let runs_on = matches!(text(given.pod, "/spec/restartPolicy"), None | Some("Always"));
    let grace = given.pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(GRACE);
    if wishes.stop_delay == 0 || !runs_on || grace < wishes.stop_delay.saturating_mul(2) {
        return;
    }
    let containers = list(patch.pod(), "/spec/containers").iter().enumerate();
    let held: Vec<(usize, String)> = containers
        .filter(|(_, c)| !status.is_ours(name(c)) && c.pointer("/lifecycle/preStop").is_none_or(Value::is_null))
        .map(|(n, c)| (n, name(c).to_owned()))
        .collect();
    for (n, container) in held {
        let sleep = json!({ "sleep": { "seconds": wishes.stop_delay } });
        patch.set(&format!("/spec/containers/{n}/lifecycle"), "preStop", sleep);
        status.held(&container);
    }
}

/// `weir await` runs the command, and ends the sidecar after it.
fn wrap(patch: &mut Patch, status: &mut Status, given: &Given<'_>, job: &Job) {
    let weir = format!("{PROGRAMS_AT}/weir");
    let mut bring = json!({
        "name": AWAIT,
        "image": given.settings.images.weir,
        "command": ["/weir", "await", "--install", PROGRAMS_AT],
        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
        "securityContext": security(super::names::SIDECAR, &[]),
        "volumeMounts": [{ "name": PROGRAMS, "mountPath": PROGRAMS_AT }],
    });
    pull_policy(&mut bring, given);
    // The last, after capture: it needs no network.
    patch.push("/spec/initContainers", bring);
    status.container(AWAIT);
    patch.push("/spec/volumes", json!({ "name": PROGRAMS, "emptyDir": { "sizeLimit": "128Mi" } }));
    status.volume(PROGRAMS);
    let Some(n) = list(patch.pod(), "/spec/containers").iter().position(|c| name(c) == job.container) else { return };
    let at = format!("/spec/containers/{n}");
    let before = [&weir, "await", "--shutdown", "--"];
    let command =
        before.iter().map(|word| json!(word)).chain(list(patch.pod(), &format!("{at}/command")).iter().cloned());
    let command: Vec<Value> = command.collect();
    patch.set(&at, "command", Value::Array(command));
    let mount = json!({ "name": PROGRAMS, "mountPath": PROGRAMS_AT, "readOnly": true });
    patch.push(&format!("{at}/volumeMounts"), mount);
    status.wrapped(&job.container, before.len());
}
