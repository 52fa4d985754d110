//! nginx's pair: Debian's, one worker each, connections to the next hop kept, no log.
//!
//! Plain ports go on as HTTP/1.1. gRPC ports are HTTP/2 on every hop, with one request at a time on each connection to the
//! next hop: nginx does not multiplex there. It knows no SPIFFE names: the caller checks a DNS name, the application's side
//! that the certificate is the mesh's. Bodies are passed on as they come and never go to disk, as in a sidecar.

use super::{
    Hop, Plan,
    pki::{Certificates, dns_name},
};
use crate::contestant::{Contestant, Failure, Kind};
use std::{net::SocketAddr, path::Path, process::Command};
use weir_tests::process::Process;

/// Starts both, and waits until a request went through.
pub(crate) async fn start(program: &Path, application: SocketAddr) -> Result<Contestant, Failure> {
    let plan = Plan::new()?;
    let (folder, outside, between) = (plan.folder.path(), &plan.outside, &plan.between);
    let server = run(program, folder, "server", &inbound(between, application, &plan.peer))?;
    let client = run(program, folder, "client", &outbound(outside, between, &plan.own))?;
    plan.settled(Kind::Nginx, version(program), client, server).await
}

fn config(folder: &Path, name: &str, servers: &str) -> String {
    let folder = folder.display();
    // One process (`master_process off`): what is started is what is measured.
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx-{name}.pid; error_log stderr crit;
events {{ worker_connections 32768; multi_accept off; }}
http {{
    access_log off; tcp_nodelay on; server_tokens off;
    client_body_temp_path {folder}/{name}-1; proxy_temp_path {folder}/{name}-2; fastcgi_temp_path {folder}/{name}-3;
    uwsgi_temp_path {folder}/{name}-4; scgi_temp_path {folder}/{name}-5;
    keepalive_requests 1000000000; keepalive_timeout 1h; client_max_body_size 0;
    client_header_timeout 1h; client_body_timeout 1h; send_timeout 1h;
    http2_max_concurrent_streams 1024;
    proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
    proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_buffers 16 16k; proxy_buffer_size 16k;
    proxy_read_timeout 1h; proxy_send_timeout 1h; grpc_read_timeout 1h; grpc_send_timeout 1h; grpc_buffer_size 16k;
{servers}}}
"
    )
}

/// Connections to the next hop, and what may be asked of them.
fn upstream(name: &str, to: SocketAddr) -> String {
    format!(
        "    upstream {name} {{ server {to}; keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 1h; }}\n"
    )
}

fn outbound<'a>(outside: &'a Hop, between: &'a Hop, own: &'a Certificates) -> impl Fn(&Path) -> String + use<'a> {
    let tls = |kind: &str| {
        format!(
            "{kind}_ssl_certificate {}; {kind}_ssl_certificate_key {}; {kind}_ssl_trusted_certificate {}; \
             {kind}_ssl_verify on; {kind}_ssl_name {}; {kind}_ssl_server_name on; {kind}_ssl_protocols TLSv1.3;",
            own.chain.display(),
            own.key.display(),
            own.root.display(),
            dns_name("bench"),
        )
    };
    let (proxy, grpc) = (tls("proxy"), tls("grpc"));
    let servers = format!(
        "{}{}    server {{ listen {}; location / {{ {proxy} proxy_pass https://next_http; }} }}
    server {{ listen {} http2; location / {{ {grpc} grpc_pass grpcs://next_grpc; }} }}\n",
        upstream("next_http", between.http),
        upstream("next_grpc", between.http2),
        outside.http,
        outside.http2,
    );
    move |folder| config(folder, "client", &servers)
}

fn inbound<'a>(between: &'a Hop, application: SocketAddr, own: &'a Certificates) -> impl Fn(&Path) -> String + use<'a> {
    let tls = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on; \
         ssl_protocols TLSv1.3;",
        own.chain.display(),
        own.key.display(),
        own.root.display(),
    );
    let servers = format!(
        "{}{}    server {{ listen {} ssl; {tls} location / {{ proxy_pass http://application_http; }} }}
    server {{ listen {} ssl http2; {tls} location / {{ grpc_pass grpc://application_grpc; }} }}\n",
        upstream("application_http", application),
        upstream("application_grpc", application),
        between.http,
        between.http2,
    );
    move |folder| config(folder, "server", &servers)
}

fn run(program: &Path, folder: &Path, name: &str, config: &impl Fn(&Path) -> String) -> Result<Process, Failure> {
    let path = folder.join(format!("nginx-{name}.conf"));
    std::fs::write(&path, config(folder))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(path).args(["-e", "stderr"]);
    Ok(Process::start(&format!("nginx-{name}"), folder, &mut command))
}

fn version(program: &Path) -> String {
    let said = Command::new(program).arg("-v").output().map(|o| String::from_utf8_lossy(&o.stderr).into_owned());
    said.unwrap_or_default().lines().next().unwrap_or_default().replace("nginx version: ", "")
}
