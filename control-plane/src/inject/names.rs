//! The names that injection uses in a pod: all of them are ours.

/// `enabled` or `disabled`: label of namespaces and pods (webhooks select by labels), also an annotation of both.
pub const INJECT: &str = "weir.dev/inject";
/// What was added to a pod, as JSON; also a label (`true`), for whoever selects pods.
pub const INJECTED: &str = "weir.dev/injected";
/// What annotations that configure a sidecar begin with.
pub(super) const CONFIG: &str = "config.weir.dev/";

/// The sidecar's container, and that which captures.
pub(super) const PROXY: &str = "weir-proxy";
pub(super) const INIT: &str = "weir-init";
/// Brings `weir await` into a job's container.
pub(super) const AWAIT: &str = "weir-await";

/// The ConfigMap with what vouches for the control plane; the control plane keeps one in each namespace that has sidecars.
pub const CONFIG_MAP: &str = "weir-roots";
/// The key in it.
pub const ROOTS_FILE: &str = "roots.pem";

/// Volumes.
pub(super) const ROOTS: &str = "weir-roots";
pub(super) const TOKEN: &str = "weir-token";
pub(super) const STATE: &str = "weir-state";
pub(super) const PROGRAMS: &str = "weir-programs";

/// Where they are seen.
pub(super) const ROOTS_AT: &str = "/etc/weir/roots";
pub(super) const TOKEN_AT: &str = "/var/run/secrets/weir.dev";
pub(super) const STATE_AT: &str = "/var/lib/weir";
pub(super) const PROGRAMS_AT: &str = "/run/weir";

/// The user and the group of sidecars: `weir-init` knows their connections by it.
pub(super) const SIDECAR: i64 = 1337;

/// The sidecar's ports (`ARCHITECTURE.md`).
pub(super) const OUTBOUND: u16 = 15080;
pub(super) const CAPTURED: u16 = 15001;
pub(super) const INBOUND: u16 = 15006;
pub(super) const METRICS: u16 = 15020;
pub(super) const HEALTH: u16 = 15021;
pub(super) const ADMIN: u16 = 15000;
