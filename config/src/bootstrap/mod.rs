//! What a process must know before anybody has told it anything: the start-up files.

mod probe;
mod proxy;

pub use probe::{Probe, ProbeError};
pub use proxy::{BootstrapError, ControlPlane, Identity, Limits, Listen, LogFormat, Node, Proxy};
