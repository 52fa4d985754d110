//! Envoy's pair: the real thing from PyPI (`tests/setup`), one worker each, with the configuration of `envoy_config`.

use super::{
    envoy_config::{self, Between},
    local,
    pki::Issuer,
    settle, version,
};
use crate::contestant::{Contestant, Failure, Kind, Target};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use weir_tests::{client::get, free_port, process::Process};

/// Starts both, and waits until a request went through.
pub(crate) async fn start(envoy: &Path, application: SocketAddr, kind: Kind) -> Result<Contestant, Failure> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new()?;
    let client = issuer.issue(folder.path(), "client")?;
    let server = issuer.issue(folder.path(), "bench")?;
    let between = if kind == Kind::EnvoyHttp2 { Between::Http2 } else { Between::AsTheClient };
    let (outbound, inbound) = (local(free_port()), local(free_port()));
    let callee =
        run(envoy, folder.path(), "server", |admin| envoy_config::inbound(admin, inbound, application, &server))
            .await?;
    let caller =
        run(envoy, folder.path(), "client", |admin| envoy_config::outbound(admin, outbound, inbound, &client, between))
            .await?;
    settle("Envoy", outbound, [&caller, &callee]).await?;
    let (http, grpc) = (Target::new(outbound, "bench-http:8080"), Target::new(outbound, "bench-grpc:8081"));
    let mut handshake = super::handshake(inbound, &client);
    if let Some(handshake) = &mut handshake {
        handshake.name = envoy_config::server_name("bench-http", 8080);
    }
    Ok(Contestant {
        version: version(envoy),
        proxies: vec![("caller's", caller), ("application's", callee)],
        others: vec![Box::new(folder)],
        ..Contestant::new(kind, http, grpc, handshake)
    })
}

async fn run(
    envoy: &Path,
    folder: &Path,
    name: &str,
    config: impl FnOnce(SocketAddr) -> Value,
) -> Result<Process, Failure> {
    let admin = local(free_port());
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(&config(admin))?)?;
    let mut command = Command::new(envoy);
    command.arg("-c").arg(path).args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    let mut process = Process::start(&format!("envoy-{name}"), folder, &mut command);
    let limit = Instant::now() + Duration::from_secs(30);
    while !get(admin, "admin", "/ready").await.is_ok_and(|a| a.status().is_success()) {
        if !process.is_running() || Instant::now() > limit {
            return Err(format!("Envoy does not start:\n{}", process.log()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(process)
}
