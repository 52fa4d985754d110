//! Traffic through two sidecars, byte for byte: what a raw client sends, what a raw application gets, and the way back.

mod attacks;
mod case;
mod corpus;
mod fields;
mod from_http2;
mod h2spec;
mod interim;
mod lies;
mod messages;
mod refusals;
mod star;
mod targets;
mod upgrades;
mod versions;

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
    let (client_port, server_port) = (free_port(), free_port());
    let documents = [
        service("server", 8080, protocol),
        workload("server-1", "server", upstream.address.port(), server_port),
        workload("client-1", "client", free_port(), client_port),
        more.to_owned(),
    ]
    .concat();
    let mesh = Mesh::start(&documents).await;
    let server = mesh.sidecar("server-1", "server", server_port).await;
    let client = mesh.sidecar("client-1", "client", client_port).await;
    Path { mesh, client, server, upstream }
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
