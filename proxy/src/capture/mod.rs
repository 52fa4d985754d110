//! Transparent capture: the rules that turn an application's connections to its sidecar (`rules`), and the proof that
//! they do (`probe`). The rules are set by `weir-init`; the sidecar itself needs no right to set any.

pub mod probe;
pub mod rules;

/// Where captured connections of the application arrive, on loopback.
pub const OUTBOUND: u16 = 15001;
/// Where connections for the application arrive.
pub const INBOUND: u16 = 15006;
/// Where the application's questions (DNS) arrive, on loopback.
pub const DNS: u16 = 15053;
/// A port of loopback on which nobody listens. The rules turn it to [`OUTBOUND`], whoever calls: so that a sidecar can
/// try them, whose other connections are left alone.
pub const PROBE: u16 = 15003;
/// The user and the group that a sidecar runs as, unless something else is said. (Istio's.)
pub const SIDECAR: u32 = 1337;
