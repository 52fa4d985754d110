//! Pods as network namespaces: a bridge in a namespace of the test's own thread, a namespace with a veth pair for each pod.
//! Nothing is made in the root namespace, and all of it goes with the processes that live in it.
//!
//! To be used in a test with a runtime of one thread: the namespace is the thread's.

use crate::process::{Process, binaries};
use nix::sched::{CloneFlags, unshare};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
};

/// The user and the group of sidecars.
pub const SIDECAR: u32 = 1337;

/// The namespace in the middle, which this thread is in.
#[derive(Debug)]
pub struct Network {
    pods: u8,
}

/// A pod: an address of each family, and whatever is started in it.
#[derive(Debug)]
pub struct Pod {
    /// Its IPv4 address.
    pub v4: IpAddr,
    /// Its IPv6 address.
    pub v6: IpAddr,
    name: String,
    // Keeps the namespace alive.
    pause: Process,
}

/// Where the middle is reached by pods.
pub const MIDDLE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

impl Network {
    /// `None`, said loudly, where namespaces are not allowed or a program is missing; with `WEIR_NO_SKIP` set, a failure.
    pub fn new() -> Option<Self> {
        for program in ["ip", "nsenter", "unshare", "setpriv", "nft"] {
            crate::peers::find(program)?;
        }
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "no network namespaces: {error}; run as root");
            eprintln!("SKIPPED: no network namespaces: {error}; run as root to have this tested");
            return None;
        }
        for line in [
            "link set lo up",
            // An address of its own: else it takes the least of those of its ports, and another with each new one, and who
            // has learnt the old one sends to nobody for half a minute.
            "link add br0 address 02:00:00:00:00:01 type bridge",
            "addr add 10.9.0.1/16 dev br0",
            "addr add fd09::1/64 dev br0 nodad",
            "link set br0 up",
        ] {
            run(Command::new("ip").args(line.split(' ')));
        }
        Some(Self { pods: 1 })
    }

    /// One more pod.
    pub fn pod(&mut self, name: &str, folder: &Path) -> Pod {
        self.pods += 1;
        let n = self.pods;
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        let pause =
            Process::start(&format!("pod-{name}"), folder, Command::new("unshare").args(["--net", "sleep", "3600"]));
        let theirs = format!("/proc/{}/ns/net", pause.id());
        while std::fs::read_link(&theirs).is_ok_and(|ns| ns == own) {
            std::thread::yield_now();
        }
        let pod = Pod {
            v4: Ipv4Addr::new(10, 9, 0, n).into(),
            v6: Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, n.into()).into(),
            name: name.into(),
            pause,
        };
        let pid = pod.pause.id();
        for line in [
            format!("link add veth{n} type veth peer name eth0 netns {pid}"),
            format!("link set veth{n} master br0 up"),
        ] {
            run(Command::new("ip").args(line.split(' ')));
        }
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {}/16 dev eth0", pod.v4),
            format!("addr add {}/64 dev eth0 nodad", pod.v6),
            "link set eth0 up".to_owned(),
            "route add default via 10.9.0.1".to_owned(),
            "-6 route add default via fd09::1".to_owned(),
        ] {
            run(pod.command("ip").args(line.split(' ')));
        }
        pod
    }
}

impl Pod {
    /// A program in the pod, as root.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "-t", &self.pause.id().to_string(), "--"]).arg(program.as_ref());
        command
    }

    /// A program in the pod, as somebody.
    pub fn command_as(&self, user: u32, program: impl AsRef<Path>) -> Command {
        let mut command = self.command("setpriv");
        let user = user.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(program.as_ref());
        command
    }

    /// Starts a program in the pod, as root.
    pub fn start(&self, name: &str, folder: &Path, program: impl AsRef<Path>, arguments: &[&str]) -> Process {
        Process::start(&format!("{}-{name}", self.name), folder, self.command(program).args(arguments))
    }

    /// Runs a program in the pod to its end: whether it was content, and what it said.
    pub async fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> (bool, String) {
        let mut command = tokio::process::Command::from(self.command(program));
        command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let limit = std::time::Duration::from_secs(60);
        let output = tokio::time::timeout(limit, command.output()).await.expect("in time").expect("it runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    /// The same, for what must be content.
    pub async fn must(&self, program: impl AsRef<Path>, arguments: &[&str]) -> String {
        let program = program.as_ref();
        let (content, text) = self.run(program, arguments).await;
        assert!(content, "in {}: {program:?} {arguments:?}:\n{text}", self.name);
        text
    }

    /// Turns its traffic to its sidecar.
    pub async fn capture(&self, arguments: &[&str]) -> String {
        self.must(binaries().join("weir-init"), arguments).await
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
