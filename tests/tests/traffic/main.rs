//! Traffic through two sidecars, byte for byte: what a raw client sends, what a raw application gets, and the way back.

mod attacks;
mod case;
mod churn;
mod corpus;
mod fields;
mod floods;
mod from_http2;
mod h2spec;
mod idle;
mod interim;
mod lies;
mod messages;
mod page;
mod random;
mod refusals;
mod stalled;
mod star;
mod targets;
mod upgrades;
mod versions;
mod websocket_http2;

use std::time::Duration;
use weir_tests::{
    free_port,
    mesh::{Mesh, Sidecar, service, workload},
    raw::Raw,
    upstream::Upstream,
};

/// A raw application behind two sidecars; it is called `server:8080`.
struct Path {
    #[allow(dead_code, reason = "held: its processes end with it")]
    mesh: Mesh,
    client: Sidecar,
    #[allow(dead_code, reason = "held: its process ends with it")]
    server: Sidecar,
    upstream: Upstream,
}

/// Client → sidecar → mutual TLS → sidecar → `upstream`.
async fn path(upstream: Upstream) -> Path {
    path_of("http", upstream, "").await
}

/// The same for another protocol, with further documents.
async fn path_of(protocol: &str, upstream: Upstream, more: &str) -> Path {
    let (mesh, client, server) = sidecars(protocol, upstream.address.port(), more).await;
    Path { mesh, client, server, upstream }
}

/// Two sidecars, the second in front of an application on this port.
async fn sidecars(protocol: &str, application: u16, more: &str) -> (Mesh, Sidecar, Sidecar) {
    let (client_port, server_port) = (free_port(), free_port());
    let documents = [
        service("server", 8080, protocol),
        workload("server-1", "server", application, server_port),
        workload("client-1", "client", free_port(), client_port),
        more.to_owned(),
    ]
    .concat();
    let mesh = Mesh::start(&documents).await;
    let server = mesh.sidecar("server-1", "server", server_port).await;
    let client = mesh.sidecar("client-1", "client", client_port).await;
    (mesh, client, server)
}

/// A number that the environment may change: how long a long test is.
fn count(variable: &str, usual: usize) -> usize {
    let asked = std::env::var(variable).ok().and_then(|v| v.parse().ok());
    asked.unwrap_or(usual)
}

impl Path {
    /// A new connection to the client's sidecar.
    async fn connect(&self) -> Raw {
        Raw::connect(self.client.outbound).await
    }
}

/// How long is listened for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// `HTTP/1.1` with `Host`, and these lines.
fn request(line: &str, lines: &[&str]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nHost: server:8080\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}
