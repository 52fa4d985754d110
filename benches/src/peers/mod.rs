//! The contestants as pairs of processes: caller's proxy → mutual TLS 1.3 → application's proxy.

pub mod envoy;
mod envoy_config;
pub mod haproxy;
pub mod nginx;
pub mod pki;
pub mod relay;
pub mod weir;
mod weir_documents;

use crate::contestant::{Contestant, Failure, Handshake, Kind, Target};
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use weir_tests::{client::get, free_port, process::Process};

/// The ports of one hop.
pub(crate) struct Hop {
    pub(crate) http: SocketAddr,
    pub(crate) http2: SocketAddr,
}

impl Hop {
    fn new() -> Self {
        Self { http: local(free_port()), http2: local(free_port()) }
    }
}

/// What a pair of proxies from Debian needs before it is started: ports, and certificates of the caller and of its peer.
pub(crate) struct Plan {
    pub(crate) folder: TempDir,
    pub(crate) own: pki::Certificates,
    pub(crate) peer: pki::Certificates,
    pub(crate) outside: Hop,
    pub(crate) between: Hop,
}

impl Plan {
    pub(crate) fn new() -> Result<Self, Failure> {
        let (folder, issuer) = (tempfile::tempdir()?, pki::Issuer::new()?);
        let (own, peer) = (issuer.issue(folder.path(), "client")?, issuer.issue(folder.path(), "bench")?);
        Ok(Self { folder, own, peer, outside: Hop::new(), between: Hop::new() })
    }

    /// The pair as a contestant, once a request went through.
    pub(crate) async fn settled(
        self,
        kind: Kind,
        version: String,
        client: Process,
        server: Process,
    ) -> Result<Contestant, Failure> {
        settle(&kind.to_string(), self.outside.http, [&client, &server]).await?;
        let http = Target::new(self.outside.http, "bench-http:8080");
        let grpc = Target::new(self.outside.http2, "bench-grpc:8081");
        Ok(Contestant {
            version,
            proxies: vec![("caller's", client), ("application's", server)],
            others: vec![Box::new(self.folder)],
            ..Contestant::new(kind, http, grpc, handshake(self.between.http, &self.own))
        })
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// How to shake hands with a pair's inbound side as its caller would.
pub(crate) fn handshake(address: SocketAddr, own: &pki::Certificates) -> Option<Handshake> {
    let name = pki::dns_name("bench");
    Some(Handshake { address, name, chain: own.chain.clone(), key: own.key.clone() })
}

/// Waits until a request goes through a new pair.
pub(crate) async fn settle(who: &str, outbound: SocketAddr, pair: [&Process; 2]) -> Result<(), Failure> {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let said = match get(outbound, "bench-http:8080", "/small").await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > limit {
            let logs = pair.map(Process::log).join("");
            return Err(format!("no request goes through {who}'s pair: {said}\n{logs}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A program of this machine: of the folder that `tests/setup` makes, of the path, or of the folders for daemons, which
/// are not in everyone's path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let ours = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.weir/peers/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [ours].into_iter().chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("{program} is not installed, so it is left out; tests/setup installs it");
    }
    found
}

/// What a program says to `--version`, without the folder that it is in.
pub(crate) fn version(program: &std::path::Path) -> String {
    let said = Command::new(program).arg("--version").output();
    let said = said.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    said.replace(&format!("{} ", program.display()), "").trim().to_owned()
}
