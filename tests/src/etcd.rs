//! Members of etcd, as processes on free loopback ports.

use crate::{free_port, peers, process::Process};
use nix::sys::signal::Signal;
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// A cluster.
pub struct Etcd {
    program: PathBuf,
    folder: tempfile::TempDir,
    members: Vec<Member>,
}

struct Member {
    client: u16,
    peer: u16,
    process: Option<Process>,
}

impl Etcd {
    /// Starts so many members; `None`, said loudly, where etcd is not installed.
    pub fn start(count: usize) -> Option<Self> {
        let program = peers::find("etcd")?;
        let member = |_| Member { client: free_port(), peer: free_port(), process: None };
        let folder = tempfile::tempdir().expect("a folder");
        let mut etcd = Self { program, folder, members: (0..count).map(member).collect() };
        (0..count).for_each(|n| etcd.start_member(n));
        for member in &etcd.members {
            let limit = Instant::now() + Duration::from_secs(30);
            while std::net::TcpStream::connect(("127.0.0.1", member.client)).is_err() {
                assert!(Instant::now() < limit, "etcd does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(etcd)
    }

    /// Its members, as `--etcd-endpoints` has them.
    pub fn endpoints(&self) -> String {
        self.members.iter().map(|m| url(m.client)).collect::<Vec<_>>().join(",")
    }

    /// Where its members listen for clients.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|m| SocketAddr::from(([127, 0, 0, 1], m.client))).collect()
    }

    /// Starts a member (again) on its data.
    pub fn start_member(&mut self, n: usize) {
        let all: Vec<_> = self.members.iter().enumerate().map(|(n, m)| format!("m{n}={}", url(m.peer))).collect();
        let (name, member) = (format!("m{n}"), &self.members[n]);
        let (client, peer) = (url(member.client), url(member.peer));
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &name, "--logger", "zap", "--data-dir"])
            .arg(self.folder.path().join(&name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        self.members[n].process = Some(Process::start(&format!("etcd-{name}"), self.folder.path(), &mut command));
    }

    /// `kill -9`
    pub fn kill(&mut self, n: usize) {
        self.members[n].process = None;
    }

    /// Neither answers nor closes its connections: what a partition looks like to everybody else.
    pub fn pause(&self, n: usize) {
        self.signal(n, Signal::SIGSTOP);
    }

    /// Goes on, and believes what it did before for a moment.
    pub fn resume(&self, n: usize) {
        self.signal(n, Signal::SIGCONT);
    }

    fn signal(&self, n: usize, signal: Signal) {
        self.members[n].process.as_ref().expect("a member").signal(signal);
    }

    /// Which member leads.
    pub fn leader(&self) -> Option<usize> {
        let program = peers::find("etcdctl")?;
        // One at a time: a member that is away keeps the others from being told.
        (0..self.members.len()).find(|n| {
            let one = Command::new(&program)
                .env("ETCDCTL_API", "3")
                .args(["--dial-timeout=1s", "--command-timeout=1s", "--endpoints", &url(self.members[*n].client)])
                .args(["endpoint", "status", "-w", "simple"])
                .output();
            let text = one.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
            // endpoint, id, version, size, is leader, …
            text.split(", ").nth(4) == Some("true")
        })
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
