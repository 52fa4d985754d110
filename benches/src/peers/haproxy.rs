//! HAProxy's pair: Debian's, one thread each, connections to the next hop shared among all clients, no log.
//!
//! HTTP/1.1 ports stay HTTP/1.1 between the two, gRPC ports are HTTP/2 on every hop. HAProxy knows no SPIFFE names: the
//! caller checks a DNS name, the application's side that the certificate is the mesh's.

use super::{
    Hop, Plan,
    pki::{Certificates, dns_name},
};
use crate::contestant::{Contestant, Failure, Kind};
use std::{net::SocketAddr, path::Path, process::Command};
use weir_tests::process::Process;

/// Without strict limits: it asks for two files for each connection that it might have, and few clients need both.
const COMMON: &str = "\
global
    no strict-limits
    maxconn 25000
    nbthread 1
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout http-request 1h
    timeout http-keep-alive 1h
    http-reuse always
    option http-no-delay
";

/// Starts both, and waits until a request went through.
pub(crate) async fn start(program: &Path, application: SocketAddr) -> Result<Contestant, Failure> {
    let plan = Plan::new()?;
    let (folder, outside, between) = (plan.folder.path(), &plan.outside, &plan.between);
    let server = run(program, folder, "server", &inbound(between, application, &plan.peer))?;
    let client = run(program, folder, "client", &outbound(outside, between, &plan.own))?;
    plan.settled(Kind::Haproxy, version(program), client, server).await
}

fn outbound(outside: &Hop, between: &Hop, own: &Certificates) -> String {
    let name = dns_name("bench");
    let tls = |protocol: &str| {
        format!(
            "ssl crt {} ca-file {} verify required verifyhost {name} sni str({name}) alpn {protocol} pool-max-conn -1",
            own.bundle.display(),
            own.root.display()
        )
    };
    format!(
        "{COMMON}\
listen http
    bind {}
    server next {} {}
listen http2
    bind {} proto h2
    server next {} {}
",
        outside.http,
        between.http,
        tls("http/1.1"),
        outside.http2,
        between.http2,
        tls("h2"),
    )
}

fn inbound(between: &Hop, application: SocketAddr, own: &Certificates) -> String {
    let tls = |protocol: &str| {
        format!("ssl crt {} ca-file {} verify required alpn {protocol}", own.bundle.display(), own.root.display())
    };
    format!(
        "{COMMON}\
listen http
    bind {} {}
    server application {application} pool-max-conn -1
listen http2
    bind {} {}
    server application {application} proto h2 pool-max-conn -1
",
        between.http,
        tls("http/1.1"),
        between.http2,
        tls("h2"),
    )
}

fn run(program: &Path, folder: &Path, name: &str, config: &str) -> Result<Process, Failure> {
    let path = folder.join(format!("haproxy-{name}.cfg"));
    std::fs::write(&path, config)?;
    let mut command = Command::new(program);
    // In the foreground, one process: what is started is what is measured.
    command.arg("-db").arg("-f").arg(path);
    Ok(Process::start(&format!("haproxy-{name}"), folder, &mut command))
}

fn version(program: &Path) -> String {
    let said = Command::new(program).arg("-v").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    said.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}
