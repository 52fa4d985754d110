//! How much memory a sidecar takes, and that it does not grow with the mesh.

use crate::pair;
use weir_tests::{client, mesh::service};

/// Debug builds are larger; the promise is about what is released.
const RELEASED: bool = !cfg!(debug_assertions);

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_small_and_does_not_grow_with_the_mesh() {
    let few: String = (0..10).map(|n| service(&format!("few-{n}"), 80, "http")).collect();
    let mut pair = pair("http", &few).await;
    for name in ["server:8080", "server.default:8080", "server.default.svc:8080"] {
        client::text(pair.client.outbound, name, "/").await;
    }
    let before = pair.client.process().rss_kib();
    for batch in 0..10 {
        let many: String = (0..499).map(|n| service(&format!("many-{batch}-{n}"), 80, "http")).collect();
        pair.mesh.apply(&many).await;
    }
    for name in ["server:8080", "server.default:8080", "server.default.svc:8080"] {
        client::text(pair.client.outbound, name, "/").await;
    }
    let after = pair.client.process().rss_kib();
    eprintln!("RSS of a sidecar: {before} KiB in a mesh of 11 services, {after} KiB in one of 5,001");
    assert!(after < before + 1024, "from {before} KiB to {after} KiB");
    assert!(!RELEASED || before <= 15 * 1024, "{before} KiB");
}
