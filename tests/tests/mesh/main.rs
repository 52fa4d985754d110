//! The mesh from outside, one room a promise: traffic, failures, changes, identity, life and death, upgrades, peers, sizes.

mod age;
mod changes;
mod failures;
mod identity;
mod life;
mod peers;
mod rolling;
mod sizes;
mod traffic;
mod upgrade;

use weir_tests::{
    application::Application,
    free_port,
    mesh::{Mesh, Sidecar, service, workload},
};

/// `client` and `server`, each with a sidecar.
struct Pair {
    mesh: Mesh,
    client: Sidecar,
    server: Sidecar,
    application: Application,
}

/// Starts a pair; the service is `server:8080`, of this protocol. `more`: further documents.
async fn pair(protocol: &str, more: &str) -> Pair {
    let application = Application::start("server-1").await;
    let (client_port, server_port) = (free_port(), free_port());
    let documents = [
        service("server", 8080, protocol),
        workload("server-1", "server", application.address.port(), server_port),
        workload("client-1", "client", free_port(), client_port),
        more.to_owned(),
    ]
    .concat();
    let mesh = Mesh::start(&documents).await;
    let server = mesh.sidecar("server-1", "server", server_port).await;
    let client = mesh.sidecar("client-1", "client", client_port).await;
    Pair { mesh, client, server, application }
}

/// Three instances of `server`, each with a sidecar, and a client with one.
struct Replicas {
    mesh: Mesh,
    client: Sidecar,
    servers: Vec<(Application, Sidecar)>,
}

async fn replicas(more: &str) -> Replicas {
    replicas_with(more, &[]).await
}

/// The same; the servers' sidecars have further arguments.
async fn replicas_with(more: &str, extra: &[&str]) -> Replicas {
    let client_port = free_port();
    let mut documents =
        service("server", 8080, "http") + more + &workload("client-1", "client", free_port(), client_port);
    let mut parts = vec![];
    for n in 1..=3 {
        let name = format!("server-{n}");
        let (application, port) = (Application::start(&name).await, free_port());
        documents += &workload(&name, "server", application.address.port(), port);
        parts.push((name, application, port));
    }
    let mesh = Mesh::start(&documents).await;
    let mut servers = vec![];
    for (name, application, port) in parts {
        let sidecar = mesh.sidecar_with(&name, "server", port, extra).await;
        servers.push((application, sidecar));
    }
    let client = mesh.sidecar("client-1", "client", client_port).await;
    Replicas { mesh, client, servers }
}
