//! The whole run without a mesh, as a user starts it: the page answers, buttons work, Ctrl-C leaves nothing behind.

mod common;

use common::{get, json, post};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

struct Demo {
    process: Child,
    page: SocketAddr,
}

impl Demo {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_weir-demo"))
            .args(["run", "--mesh", "off", "--rate", "10", "--segments", "1", "--segment-bytes", "10000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let page = loop {
            let line = lines.next().expect("it ended before it told its page").unwrap();
            if let Some(rest) = line.split_once("http://").map(|(_, rest)| rest) {
                break rest.split('/').next().unwrap().parse().unwrap();
            }
        };
        // Somebody must read on, or the summary would block.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, page }
    }

    async fn numbers(&self) -> serde_json::Value {
        json(&get(self.page, "/numbers.json", &[]).await)
    }

    async fn wait(&self, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let numbers = self.numbers().await;
            if holds(&numbers) {
                return numbers;
            }
            assert!(Instant::now() < end, "{what}: {numbers}");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn replica(numbers: &serde_json::Value, service: usize, n: usize) -> &serde_json::Value {
    &numbers["services"][service]["instances"][n]
}

#[tokio::test]
async fn one_command_starts_everything_and_ctrl_c_ends_it() {
    let mut demo = Demo::start();
    let page = get(demo.page, "/", &[]).await;
    assert_eq!(page.status(), 200);
    assert!(page.headers().contains_key("content-security-policy"));
    assert_eq!(get(demo.page, "/numbers.json", &[("host", "evil.example")]).await.status(), 421);
    let numbers = demo.wait("nobody plays", |n| n["felt"]["plays"].as_u64() > Some(5)).await;
    assert_eq!(numbers["mesh"], false);
    assert_eq!(numbers["services"].as_array().unwrap().len(), 8);

    // The third service is the catalogue; its first instance dies, and its second does not.
    let dead = post(demo.page, "/harm", r#"{"target":"catalog-1","harm":"dead"}"#, &[]).await;
    assert_eq!(dead.status(), 204);
    let numbers = demo.wait("it lives", |n| replica(n, 2, 0)["alive"] == false).await;
    assert_eq!(replica(&numbers, 2, 1)["alive"], true);
    demo.wait("nobody is hurt", |n| n["services"][2]["success"].as_f64() < Some(90.0)).await;
    assert_eq!(post(demo.page, "/harm", r#"{"target":"all","harm":"healed"}"#, &[]).await.status(), 204);
    demo.wait("it stays dead", |n| replica(n, 2, 0)["alive"] == true).await;
    assert_eq!(post(demo.page, "/harm", r#"{"target":"nobody","harm":"dead"}"#, &[]).await.status(), 404);
    assert_eq!(post(demo.page, "/harm", r#"{"target":"web","harm":"hexed"}"#, &[]).await.status(), 422);

    let group = demo.process.id();
    let children = children_of(group);
    assert!(children.len() >= 16, "{children:?}");
    kill(Pid::from_raw(group as i32), Signal::SIGINT).unwrap();
    let status = demo.process.wait().unwrap();
    assert!(status.success(), "{status}");
    for child in children {
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "{child} was left behind");
    }
    assert!(TcpStream::connect(demo.page).is_err());
}

/// Processes whose parent is this one.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|e| e.file_name().to_str().and_then(|n| n.parse::<u32>().ok()));
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state parent …`; a name may have spaces.
        let after = stat.rsplit_once(") ").map(|(_, after)| after.to_owned()).unwrap_or_default();
        after.split(' ').nth(1).and_then(|p| p.parse().ok()) == Some(parent)
    };
    numbers.filter(is_child).collect()
}
