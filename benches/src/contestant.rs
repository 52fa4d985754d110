//! Who takes part: where a client sends its requests, and which processes they cost.

use crate::{
    peers::{self, envoy, haproxy, nginx, relay, weir},
    usage::Usage,
};
use clap::ValueEnum;
use std::{any::Any, fmt, net::SocketAddr, path::PathBuf};
use weir_tests::process::Process;

/// What goes wrong outside the measured part.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// All that can take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Weir with its defaults.
    Weir,
    /// The same, of other binaries (`--other`).
    WeirOther,
    /// Weir with every policy on.
    WeirAll,
    /// Weir with every policy off that can be off.
    WeirNone,
    /// Weir in a mesh of 5,000 services.
    WeirServices,
    /// Weir with 1,000 routes on the host.
    WeirRoutes,
    /// Weir with three endpoints of the service.
    WeirFew,
    /// Weir with 1,000 endpoints of the service.
    WeirEndpoints,
    /// Weir with two data threads.
    WeirTwo,
    /// Envoy as Istio sets it.
    Envoy,
    /// The same, with HTTP/2 between the sidecars.
    EnvoyHttp2,
    /// HAProxy.
    Haproxy,
    /// nginx.
    Nginx,
    /// A TLS relay that parses nothing.
    Relay,
    /// No proxy.
    Direct,
}

impl Kind {
    /// Those that others are measured against.
    pub const PEERS: [Self; 4] = [Self::Envoy, Self::EnvoyHttp2, Self::Haproxy, Self::Nginx];
}

impl fmt::Display for Kind {
    /// Its name in the tables.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weir => "Weir",
            Self::WeirOther => "Weir, the other build",
            Self::WeirAll => "Weir, all policies",
            Self::WeirNone => "Weir, no policies",
            Self::WeirServices => "Weir, 5,000 services in the mesh",
            Self::WeirRoutes => "Weir, 1,000 routes on the host",
            Self::WeirFew => "Weir, 3 endpoints",
            Self::WeirEndpoints => "Weir, 1,000 endpoints",
            Self::WeirTwo => "Weir, two threads",
            Self::Envoy => "Envoy as Istio sets it",
            Self::EnvoyHttp2 => "Envoy, HTTP/2 between",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Relay => "the floor: a TLS relay",
            Self::Direct => "no proxy",
        })
    }
}

/// One way from the client to the application.
pub struct Contestant {
    /// Which.
    pub kind: Kind,
    /// What its proxies say about their version.
    pub version: String,
    /// Where requests go, and for whom they say they are, as HTTP/1.1.
    pub http: Target,
    /// The same, as HTTP/2.
    pub grpc: Target,
    /// How to shake hands with the application's proxy.
    pub handshake: Option<Handshake>,
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

impl Target {
    /// This address, under this name.
    pub fn new(address: SocketAddr, authority: impl Into<String>) -> Self {
        Self { address, authority: authority.into() }
    }
}

/// What the caller's proxy would need for a handshake with the application's.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// Where the application's proxy listens.
    pub address: SocketAddr,
    /// The server name to ask for.
    pub name: String,
    /// The caller's certificate, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Contestant {
    /// One without processes yet.
    pub fn new(kind: Kind, http: Target, grpc: Target, handshake: Option<Handshake>) -> Self {
        let (version, proxies, others) = (String::new(), Vec::new(), Vec::new());
        Self { kind, version, http, grpc, handshake, proxies, others }
    }

    /// Starts one; `None` when its program is not installed.
    pub async fn start(
        kind: Kind,
        binaries: &weir::Binaries,
        other: Option<&PathBuf>,
        application: SocketAddr,
    ) -> Result<Option<Self>, Failure> {
        Ok(Some(match kind {
            Kind::Direct => {
                let target = Target::new(application, application.to_string());
                Self::new(kind, target.clone(), target, None)
            }
            Kind::Relay => relay::start(application).await?,
            Kind::WeirOther => {
                let Some(proxy) = other else { return Ok(None) };
                let binaries = weir::Binaries { proxy: proxy.clone(), ..binaries.clone() };
                weir::start(&binaries, application, kind).await?
            }
            Kind::Weir
            | Kind::WeirAll
            | Kind::WeirNone
            | Kind::WeirServices
            | Kind::WeirRoutes
            | Kind::WeirFew
            | Kind::WeirEndpoints
            | Kind::WeirTwo => weir::start(binaries, application, kind).await?,
            Kind::Envoy | Kind::EnvoyHttp2 => {
                let Some(program) = peers::find("envoy") else { return Ok(None) };
                envoy::start(&program, application, kind).await?
            }
            Kind::Haproxy => {
                let Some(program) = peers::find("haproxy") else { return Ok(None) };
                haproxy::start(&program, application).await?
            }
            Kind::Nginx => {
                let Some(program) = peers::find("nginx") else { return Ok(None) };
                nginx::start(&program, application).await?
            }
        }))
    }

    /// What its proxies have used so far; `None` without proxies.
    pub fn usage(&self) -> Option<Usage> {
        self.proxies.iter().map(|(_, process)| Usage::of(process.id())).reduce(|a, b| a + b)
    }

    /// The resident memory of each proxy, in KiB.
    pub fn rss(&self) -> Vec<(&'static str, u64)> {
        self.proxies.iter().map(|(role, process)| (*role, process.rss_kib())).collect()
    }
}
