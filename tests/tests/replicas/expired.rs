//! An issuer that has expired: what is said about it, and that what is said helps.

use crate::{HERE, weir};
use weir_tests::{
    application::Application,
    client::get,
    eventually, free_port,
    mesh::{Mesh, service, workload},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_issuer_is_repaired_by_the_command_that_the_error_names() {
    let application = Application::start("server-1").await;
    let (client_port, server_port) = (free_port(), free_port());
    let documents = service("server", 8080, "http")
        + &workload("server-1", "server", application.address.port(), server_port)
        + &workload("client-1", "client", free_port(), client_port);
    let mut mesh = Mesh::stopped(HERE);
    mesh.extra = ["--root-life", "20s", "--rotation-settle", "1s"].map(str::to_owned).to_vec();
    mesh.start_control_plane().await;
    mesh.apply(&documents).await;
    let server = mesh.sidecar("server-1", "server", server_port).await;
    let client = mesh.sidecar("client-1", "client", client_port).await;
    let answers = || async {
        let answer = get(client.outbound, "server:8080", "/").await.ok()?;
        answer.status().is_success().then_some(())
    };
    eventually("a request is answered", 15, answers).await;
    // The error is where people look: with the sidecar, on its page, and in the status.
    let named = eventually("the sidecar says what to do", 60, || async {
        let log = server.log();
        let line = log.lines().find(|l| l.contains("has expired") && l.contains("`weir "))?;
        line.split('`').find(|part| part.starts_with("weir ")).map(str::to_owned)
    })
    .await;
    assert_eq!(named, "weir rotate-anchor");
    let status = weir(mesh.api, &["status"]).unwrap_or_else(|e| panic!("{e}"));
    assert!(status.contains("has expired") && status.contains(&named), "{status}");
    // A control plane that starts then starts, and says the same.
    mesh.control_plane().kill();
    // Roots that are made from now on live as they usually do.
    mesh.extra = ["--rotation-settle", "1s"].map(str::to_owned).to_vec();
    mesh.start_control_plane().await;
    assert!(mesh.control_plane().log().contains("weir rotate-anchor"));
    eventually("nothing works any more", 30, || async {
        let answer = get(client.outbound, "server:8080", "/").await;
        (!answer.is_ok_and(|a| a.status().is_success())).then_some(())
    })
    .await;
    let words: Vec<&str> = named.split(' ').skip(1).collect();
    weir(mesh.api, &words).unwrap_or_else(|e| panic!("{e}"));
    // Nothing was done with the sidecars: they know only the old root, and trust the new one by it.
    eventually("requests are answered again", 30, answers).await;
    eventually("the old root is gone", 60, || async {
        let now = mesh.page("/api/v1/rotation").await;
        (now["phase"].is_null() && now["roots"] == 1 && now["expired"] == false).then_some(())
    })
    .await;
    eventually("and they still are", 10, answers).await;
}
