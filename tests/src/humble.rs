//! Threads that come last: the load of an attacker, or of what an application does without end, shares one machine with
//! the sidecars that are looked at.

use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

/// A runtime of such threads.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(|| {
            // Of this thread alone (setpriority(2), "C library/kernel differences").
            rustix::process::setpriority_process(None, 19).expect("a thread may be humble");
        })
        .enable_all()
        .build()
        .expect("a runtime")
}

/// One that all share.
pub fn shared() -> &'static Runtime {
    static SHARED: OnceLock<Runtime> = OnceLock::new();
    SHARED.get_or_init(runtime)
}
