//! What a pod and its namespace want of their sidecar: annotations `config.weir.dev/…`, the pod's before the namespace's,
//! over what the mesh says. An annotation that is not known, or a value that is none, is refused: a sidecar that is not
//! what somebody wrote is worse than none.

use super::{Given, asked, names::CONFIG, read};
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr};

/// How the application's traffic comes to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capture {
    /// Rules in the pod's network namespace (needs `NET_ADMIN` for a moment).
    Transparent,
    /// The application is told, by its environment; no right is needed.
    Explicit,
}

/// All that can be wished for.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    pub(super) capture: Capture,
    /// A container among the first ones that runs on.
    pub(super) native: bool,
    pub(super) skip_inbound_ports: String,
    pub(super) skip_outbound_ports: String,
    pub(super) skip_subnets: String,
    pub(super) no_proxy: String,
    pub(super) cpu_request: String,
    pub(super) cpu_limit: String,
    pub(super) memory_request: String,
    pub(super) memory_limit: String,
    /// Whether something was said about resources: then a pod's class of service is its owner's business.
    pub(super) sized: bool,
    pub(super) log: String,
    pub(super) log_format: String,
    pub(super) access_log: String,
    /// Seconds; `None`: what the pod's own time allows.
    pub(super) grace: Option<u64>,
    /// How long the application is still there when its pod is told to end; zero: it is told at once.
    pub(super) stop_delay: u64,
    pub(super) proxy_image: String,
    pub(super) init_image: String,
}

/// Those that are known, for whoever misspells one.
const KNOWN: [&str; 18] = [
    "access-log",
    "capture",
    "init-image",
    "native-sidecar",
    "no-proxy",
    "proxy-cpu-limit",
    "proxy-cpu-request",
    "proxy-image",
    "proxy-log-format",
    "proxy-log-level",
    "proxy-memory-limit",
    "proxy-memory-request",
    "proxy-version",
    "shutdown-grace-period",
    "skip-inbound-ports",
    "skip-outbound-ports",
    "skip-subnets",
    "stop-delay",
];

/// Callers learn within some ten milliseconds that an instance ends; this is for those who are slow.
const STOP_DELAY: u64 = 2;

/// What other meshes have an annotation for and we something better.
const ELSEWHERE: [(&str, &str); 3] = [
    ("opaque-ports", "say what a port speaks in its Service: `appProtocol: tcp`"),
    ("default-inbound-policy", "write an AuthorizationPolicy, and `mtls` in the Mesh"),
    ("trace-collector", "there is no trace collector yet; `traceparent` is passed on"),
];

impl Wishes {
    /// Of a pod.
    ///
    /// # Errors
    /// Everything that is wrong, each with a remedy.
    pub(super) fn of(given: &Given<'_>) -> Result<Self, Vec<String>> {
        let mut wrong: Vec<String> = asked::asked(given).err().into_iter().collect();
        let mut all = BTreeMap::new();
        let pods = read::texts(given.pod, "/metadata/annotations");
        for (who, annotations) in [("the namespace", &given.namespace.annotations), ("the pod", &pods)] {
            for (key, value) in annotations {
                let Some(key) = key.strip_prefix(CONFIG) else { continue };
                match known(key) {
                    Ok(()) => drop(all.insert(key.to_owned(), value.trim().to_owned())),
                    Err(remedy) => wrong.push(format!("{who}: annotation {CONFIG}{key}: {remedy}")),
                }
            }
        }
        let wishes = Said { all, wrong: &mut wrong }.wishes(given);
        if wrong.is_empty() { Ok(wishes) } else { Err(wrong) }
    }
}

fn known(key: &str) -> Result<(), String> {
    if KNOWN.contains(&key) {
        return Ok(());
    }
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(name, _)| *name == key) {
        return Err(format!("it is no annotation of Weir's; {instead}"));
    }
    Err(format!("it is not known; known are {}", KNOWN.join(", ")))
}

/// The annotations, and what is wrong with them.
struct Said<'a> {
    all: BTreeMap<String, String>,
    wrong: &'a mut Vec<String>,
}

impl Said<'_> {
    fn wishes(mut self, given: &Given<'_>) -> Wishes {
        let settings = given.settings;
        let native = self.one_of("native-sidecar", &["enabled", "disabled"]).map(|v| v == "enabled");
        let native = native.unwrap_or(given.cluster.has_native_sidecars());
        if native && !given.cluster.has_native_sidecars() {
            let text = format!("Kubernetes {} has no native sidecars; remove it", given.cluster);
            self.is_wrong("native-sidecar", &text);
        }
        let capture = match self.one_of("capture", &["transparent", "explicit"]).as_deref() {
            Some("explicit") => Capture::Explicit,
            Some(_) => Capture::Transparent,
            None if may_set_rules(given) => Capture::Transparent,
            None => Capture::Explicit,
        };
        let sizes = ["proxy-cpu-request", "proxy-cpu-limit", "proxy-memory-request", "proxy-memory-limit"];
        let sized = sizes.iter().any(|key| self.all.contains_key(*key));
        let version = self.all.remove("proxy-version");
        let image = |given: &str| version.as_deref().map_or_else(|| given.to_owned(), |v| tagged(given, v));
        let (proxy_image, init_image) = (image(&settings.images.proxy), image(&settings.images.init));
        Wishes {
            capture,
            native,
            skip_inbound_ports: self.ports("skip-inbound-ports"),
            skip_outbound_ports: self.ports("skip-outbound-ports"),
            skip_subnets: self.subnets(),
            no_proxy: self.all.remove("no-proxy").unwrap_or_default(),
            cpu_request: self.quantity("proxy-cpu-request", &settings.cpu_request),
            cpu_limit: self.quantity("proxy-cpu-limit", &settings.cpu_limit),
            memory_request: self.quantity("proxy-memory-request", &settings.memory_request),
            memory_limit: self.quantity("proxy-memory-limit", &settings.memory_limit),
            sized,
            log: self.all.remove("proxy-log-level").unwrap_or_else(|| settings.log.clone()),
            log_format: self
                .one_of("proxy-log-format", &["text", "json"])
                .unwrap_or_else(|| settings.log_format.clone()),
            access_log: self.access_log(&settings.access_log),
            grace: self.grace(),
            stop_delay: self.stop_delay(given),
            proxy_image: self.all.remove("proxy-image").unwrap_or(proxy_image),
            init_image: self.all.remove("init-image").unwrap_or(init_image),
        }
    }

    fn is_wrong(&mut self, key: &str, why: &str) {
        self.wrong.push(format!("annotation {CONFIG}{key}: {why}"));
    }

    fn one_of(&mut self, key: &str, values: &[&str]) -> Option<String> {
        let value = self.all.remove(key)?;
        if !values.contains(&&*value) {
            self.is_wrong(key, &format!("`{value}` is none of {}", values.join(", ")));
            return None;
        }
        Some(value)
    }

    /// `22,8000-8100`, as `weir-init` takes it.
    fn ports(&mut self, key: &str) -> String {
        let value = self.all.remove(key).unwrap_or_default();
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let fits = |part: &str| match part.split_once('-') {
            Some((from, to)) => matches!((port(from), port(to)), (Some(from), Some(to)) if from <= to),
            None => port(part).is_some(),
        };
        let parts: Vec<&str> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if let Some(part) = parts.iter().find(|part| !fits(part)) {
            self.is_wrong(key, &format!("`{part}` is neither a port nor a range of ports; write them as 22,8000-8100"));
        }
        parts.join(",")
    }

    fn subnets(&mut self) -> String {
        let value = self.all.remove("skip-subnets").unwrap_or_default();
        let fits = |part: &str| {
            let (address, length) = part.split_once('/').map_or((part, None), |(a, l)| (a, Some(l)));
            let most = match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
        };
        let parts: Vec<&str> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if let Some(part) = parts.iter().find(|part| !fits(part)) {
            self.is_wrong("skip-subnets", &format!("`{part}` is no subnet; write them as 10.1.0.0/16,fd00:1::/32"));
        }
        parts.join(",")
    }

    /// A quantity of Kubernetes, as far as they are used for sizes.
    fn quantity(&mut self, key: &str, otherwise: &str) -> String {
        let Some(value) = self.all.remove(key) else { return otherwise.to_owned() };
        let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &value[number.len()..];
        let fits = !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && number.parse::<f64>().is_ok()
            && ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&unit);
        if !fits {
            self.is_wrong(key, &format!("`{value}` is no quantity; write it as 100m or 64Mi"));
        }
        value
    }

    fn access_log(&mut self, otherwise: &str) -> String {
        let Some(value) = self.all.remove("access-log") else { return otherwise.to_owned() };
        let share = value.strip_suffix('%').and_then(|share| share.parse::<f64>().ok());
        if !["off", "errors", "all"].contains(&&*value) && !share.is_some_and(|s| (0.0..=100.0).contains(&s)) {
            self.is_wrong("access-log", &format!("`{value}` is none of off, errors, all, or a share such as 1%"));
        }
        value
    }

    fn grace(&mut self) -> Option<u64> {
        self.seconds("shutdown-grace-period").map(|seconds| seconds.max(1))
    }

    fn stop_delay(&mut self, given: &Given<'_>) -> u64 {
        let said = self.seconds("stop-delay");
        let sleeps = given.cluster.has_sleep_hooks();
        if said.is_some_and(|seconds| seconds > 0) && !sleeps {
            let text = format!("Kubernetes {} has no such hooks (1.30); remove it", given.cluster);
            self.is_wrong("stop-delay", &text);
        }
        if sleeps { said.unwrap_or(STOP_DELAY) } else { 0 }
    }

    /// Whole seconds, rounded up.
    fn seconds(&mut self, key: &str) -> Option<u64> {
        let value = self.all.remove(key)?;
        match crate::duration::parse(&value) {
            Ok(time) => Some(time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
            Err(why) => {
                self.is_wrong(key, &why);
                None
            }
        }
    }
}

/// Pod security below `privileged` forbids `NET_ADMIN`.
fn may_set_rules(given: &Given<'_>) -> bool {
    let level = given.namespace.labels.get("pod-security.kubernetes.io/enforce").map(String::as_str);
    !matches!(level, Some("baseline" | "restricted"))
}

/// The image with another tag. A digest names one image for good: it goes with the tag.
fn tagged(image: &str, tag: &str) -> String {
    let image = image.split('@').next().unwrap_or(image);
    // A colon before the last slash is a registry's port.
    let name = match image.rsplit_once(':') {
        Some((name, old)) if !old.contains('/') => name,
        _ => image,
    };
    format!("{name}:{tag}")
}

/// The classes of service of Kubernetes: whether a pod is `Guaranteed`, and would not be beside a sidecar without limits.
pub(super) fn is_guaranteed(pod: &Value) -> bool {
    let all: Vec<_> = read::containers(pod).collect();
    !all.is_empty()
        && all.iter().all(|container| {
            ["cpu", "memory"].iter().all(|what| {
                let limit = container.pointer(&format!("/resources/limits/{what}"));
                let request = container.pointer(&format!("/resources/requests/{what}"));
                // A request that is not said is the limit.
                limit.is_some() && request.is_none_or(|request| Some(request) == limit)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_replaced_wherever_the_image_comes_from() {
        assert_eq!(tagged("weir-proxy:0.1.0", "2"), "weir-proxy:2");
        assert_eq!(tagged("local.example:5000/weir/weir-proxy", "2"), "local.example:5000/weir/weir-proxy:2");
        assert_eq!(tagged("local.example:5000/weir-proxy:1@sha256:ab", "2"), "local.example:5000/weir-proxy:2");
    }
}
