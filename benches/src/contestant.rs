//! Who takes part: where a client sends its requests, and which processes they cost.

use crate::measure;
use std::{any::Any, net::SocketAddr, time::Duration};
use weir_tests::process::Process;

/// What goes wrong outside the measured part.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One way from the client to the application.
pub struct Contestant {
    /// Its name in the tables.
    pub name: &'static str,
    /// What its proxies say about their version.
    pub version: String,
    /// Where requests go, and for whom they say they are, as HTTP/1.1.
    pub http: Target,
    /// The same, as gRPC.
    pub grpc: Target,
    /// Its proxies: the caller's, the application's. Empty without proxies.
    pub proxies: Vec<(&'static str, Process)>,
    /// What must live as long (a control plane, folders), and is not counted.
    pub others: Vec<Box<dyn Any>>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    /// The TCP address.
    pub address: SocketAddr,
    /// `Host` or `:authority`.
    pub authority: String,
}

impl Contestant {
    /// No proxy: straight to the application.
    pub fn direct(application: SocketAddr) -> Self {
        let target = Target { address: application, authority: application.to_string() };
        Self {
            name: "no proxy",
            version: String::new(),
            http: target.clone(),
            grpc: target,
            proxies: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The CPU time of its proxies so far; `None` without proxies.
    pub fn cpu(&self) -> Option<Duration> {
        self.proxies.iter().map(|(_, process)| measure::cpu(process.id())).reduce(|a, b| a + b)
    }

    /// The CPU time of its proxies since then.
    pub fn cpu_since(&self, before: Option<Duration>) -> Option<Duration> {
        Some(self.cpu()?.saturating_sub(before?))
    }

    /// The resident memory of each proxy, in KiB.
    pub fn rss(&self) -> Vec<(&'static str, u64)> {
        self.proxies.iter().map(|(role, process)| (*role, process.rss_kib())).collect()
    }
}
