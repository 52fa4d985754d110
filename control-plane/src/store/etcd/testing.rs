//! Real members of etcd for tests: on free loopback ports, in a folder of their own, ended with the test.

use super::EtcdOptions;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A cluster of one or several members.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    members: Vec<Member>,
    /// Members take only TLS, and only from who has a certificate of `ca.pem` in the folder.
    tls: bool,
}

struct Member {
    name: String,
    client: u16,
    peer: u16,
    child: Option<Child>,
}

/// `None`, said loudly, where etcd is not installed; a failure with `WEIR_NO_SKIP`.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("etcd")).find(|p| p.is_file());
    if found.is_none() {
        assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "etcd is not installed: run tests/setup");
        eprintln!("SKIPPED: etcd is not installed; run tests/setup to have this tested");
    }
    found
}

fn free_port() -> u16 {
    // Below those that the kernel gives to outgoing connections.
    loop {
        let port = rand::random_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Cluster {
    /// Starts so many members, and waits until each can be connected to.
    pub(crate) fn start(count: usize) -> Option<Self> {
        Self::start_as(count, false)
    }

    /// One member that takes only TLS.
    pub(crate) fn start_with_tls() -> Option<Self> {
        Self::start_as(1, true)
    }

    fn start_as(count: usize, tls: bool) -> Option<Self> {
        program()?;
        let member = |n| Member { name: format!("m{n}"), client: free_port(), peer: free_port(), child: None };
        let members = (0..count).map(member).collect();
        let mut cluster = Self { folder: tempfile::tempdir().unwrap(), members, tls };
        if tls {
            certificates(cluster.folder.path());
        }
        (0..count).for_each(|n| cluster.start_member(n));
        Some(cluster)
    }

    /// Starts a member (again) on its data.
    pub(crate) fn start_member(&mut self, n: usize) {
        let all: Vec<_> = self.members.iter().map(|m| format!("{}=http://127.0.0.1:{}", m.name, m.peer)).collect();
        let member = &self.members[n];
        let (client, peer) = (self.url(member.client), url(member.peer));
        let mut command = Command::new(program().unwrap());
        command
            .args(["--name", &member.name, "--data-dir"])
            .arg(self.folder.path().join(&member.name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new", "--logger", "zap"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if self.tls {
            let file = |name: &str| self.folder.path().join(name);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(file("ca.pem"));
            command.arg("--cert-file").arg(file("cert.pem")).arg("--key-file").arg(file("key.pem"));
        }
        let child = command.spawn().unwrap();
        let address = ("127.0.0.1", member.client);
        self.members[n].child = Some(child);
        if self.members.iter().filter(|m| m.child.is_some()).count() * 2 > self.members.len() {
            let limit = Instant::now() + Duration::from_secs(30);
            while std::net::TcpStream::connect(address).is_err() {
                assert!(Instant::now() < limit, "etcd does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// How to reach it; each prefix is a store of its own.
    pub(crate) fn options(&self, prefix: &str) -> EtcdOptions {
        let endpoints = self.members.iter().map(|m| self.url(m.client)).collect();
        let file = |name: &str| self.folder.path().join(name);
        EtcdOptions {
            endpoints,
            prefix: format!("/{prefix}"),
            ca: self.tls.then(|| file("ca.pem")),
            certificate: self.tls.then(|| (file("cert.pem"), file("key.pem"))),
            user: None,
        }
    }

    /// The same, by one member only.
    pub(crate) fn options_of(&self, n: usize, prefix: &str) -> EtcdOptions {
        EtcdOptions { endpoints: vec![self.url(self.members[n].client)], ..self.options(prefix) }
    }

    fn url(&self, port: u16) -> String {
        if self.tls { format!("https://127.0.0.1:{port}") } else { url(port) }
    }

    fn signal(&self, n: usize, signal: Signal) {
        let child = self.members[n].child.as_ref().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.members[n].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Neither answers nor closes its connections: what a partition looks like to everybody else.
    pub(crate) fn pause(&self, n: usize) {
        self.signal(n, Signal::SIGSTOP);
    }

    /// Goes on, and believes what it did before for a moment.
    pub(crate) fn resume(&self, n: usize) {
        self.signal(n, Signal::SIGCONT);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill(n));
    }
}

/// A root and one certificate for both sides, as files.
fn certificates(folder: &Path) {
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.join("ca.pem"), root.self_signed(&root_key).unwrap().pem()).unwrap();
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // Without a name: with one, etcd would take it for a user's.
    leaf.distinguished_name = DistinguishedName::new();
    let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
    std::fs::write(folder.join("cert.pem"), leaf.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
