//! A real member of etcd that asks for a certificate, and then for a password.

use super::{
    Etcd, EtcdOptions,
    testing::Cluster,
    tests::{fresh, open},
};
use crate::{
    metrics::Metrics,
    store::{Store, conformance::service},
};
use std::process::Command;

/// `etcdctl` with these arguments, which must succeed; `false`: it is not installed.
fn etcdctl(options: &EtcdOptions, arguments: &[&str]) -> bool {
    let (ca, (certificate, key)) = (options.ca.clone().unwrap(), options.certificate.clone().unwrap());
    let done = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &options.endpoints[0], "--cacert"])
        .arg(ca)
        .arg("--cert")
        .arg(certificate)
        .arg("--key")
        .arg(key)
        .args(arguments)
        .output();
    let Ok(done) = done else {
        assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "etcdctl is not installed: run tests/setup");
        eprintln!("SKIPPED: etcdctl is not installed; run tests/setup to have this tested");
        return false;
    };
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    true
}

#[test]
fn tls_and_a_password_are_shown_where_they_are_asked_for() {
    let Some(cluster) = Cluster::start_with_tls() else { return };
    let options = cluster.options("tls");
    open(&options).apply(&fresh(service("web", 80))).unwrap();
    let refused = |options: &EtcdOptions| Etcd::open(options, Metrics::default()).err().unwrap().to_string();
    let bare = refused(&EtcdOptions { certificate: None, ..options.clone() });
    // What the member said of it may be lost with the connection that it closed.
    assert!(bare.contains("127.0.0.1"), "{bare}");

    let steps: [&[&str]; 6] = [
        &["user", "add", "root:secret"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "weir:mesh"],
        &["role", "add", "mesh"],
        &["role", "grant-permission", "mesh", "--prefix=true", "readwrite", "/tls/"],
        &["user", "grant-role", "weir", "mesh"],
    ];
    for step in steps {
        if !etcdctl(&options, step) {
            return;
        }
    }
    let running = open(&options);
    etcdctl(&options, &["auth", "enable"]);
    let user = |name: &str, password: &str| EtcdOptions {
        user: Some((name.to_owned(), password.to_owned().into())),
        ..options.clone()
    };
    let store = open(&user("weir", "mesh"));
    store.apply(&fresh(service("api", 80))).unwrap();
    assert_eq!(store.snapshot().len(), 2);
    let wrong = refused(&user("weir", "wrong"));
    assert!(wrong.contains("--etcd-user"), "{wrong}");
    assert!(running.apply(&fresh(service("late", 80))).is_err(), "without a user nothing is written any more");
    let foreign = refused(&EtcdOptions { prefix: "/other".into(), ..user("weir", "mesh") });
    assert!(foreign.contains("--etcd-prefix"), "{foreign}");
}
