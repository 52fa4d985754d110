//! Envoy's pair: the real thing from PyPI (`tests/setup`), one worker each, with the configuration of `envoy_config`.

use crate::{
    contestant::{Contestant, Failure, Target},
    envoy_config::{self, Certificates},
    weir::version,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use weir_tests::{client::get, eventually, free_port, process::Process};

/// Starts both, and waits until a request went through.
pub async fn start(envoy: &Path, application: SocketAddr) -> Result<Contestant, Failure> {
    let folder = tempfile::tempdir()?;
    let certificates = Issuer::new()?;
    let client = certificates.issue(folder.path(), "client")?;
    let server = certificates.issue(folder.path(), "bench")?;
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (outbound, inbound) = (local(free_port()), local(free_port()));
    let server =
        run(envoy, folder.path(), "server", |admin| envoy_config::inbound(admin, inbound, application, &server))
            .await?;
    let client =
        run(envoy, folder.path(), "client", |admin| envoy_config::outbound(admin, outbound, inbound, &client)).await?;
    eventually("a request goes through Envoy's pair", 30, || async {
        get(outbound, "bench-http:8080", "/small").await.ok().filter(|a| a.status().is_success())
    })
    .await;
    Ok(Contestant {
        name: "Envoy",
        version: version(envoy),
        http: Target { address: outbound, authority: "bench-http:8080".into() },
        grpc: Target { address: outbound, authority: "bench-grpc:8081".into() },
        proxies: vec![("caller's", client), ("application's", server)],
        others: vec![Box::new(folder)],
    })
}

async fn run(
    envoy: &Path,
    folder: &Path,
    name: &str,
    config: impl FnOnce(SocketAddr) -> Value,
) -> Result<Process, Failure> {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(&config(admin))?)?;
    let mut command = Command::new(envoy);
    command.arg("-c").arg(path).args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    let mut process = Process::start(&format!("envoy-{name}"), folder, &mut command);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !get(admin, "admin", "/ready").await.is_ok_and(|a| a.status().is_success()) {
        if !process.is_running() || std::time::Instant::now() > limit {
            return Err(format!("Envoy does not start:\n{}", process.log()).into());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(process)
}

/// A root that signs what a mesh's own authority would.
struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Certificate (P-256, as Weir's are), key and root as files.
    fn issue(&self, folder: &Path, account: &str) -> Result<Certificates, Failure> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::URI(envoy_config::identity(account).as_str().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0)?;
        let write = |name: &str, text: String| -> Result<PathBuf, Failure> {
            let path = folder.join(format!("{account}-{name}.pem"));
            std::fs::write(&path, text)?;
            Ok(path)
        };
        Ok(Certificates {
            chain: write("chain", certificate.pem())?,
            key: write("key", key.serialize_pem())?,
            root: write("root", self.0.pem())?,
        })
    }
}
