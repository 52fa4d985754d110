//! `weir up` as a user has it: the real program, with applications that are plain shell scripts, and no sidecars.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use weir_control_plane::{
    api::types::Version,
    up::{self, Mesh, State, logs},
};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const CONTROL_PLANE: &str = env!("CARGO_BIN_EXE_weir-control-plane");

/// A workload whose application writes its environment and then sleeps, with a child of its own.
fn workload(folder: &Path) -> String {
    let script = "env > $WEIR_WORKLOAD.env; echo $$ > $WEIR_WORKLOAD.pid; echo I am $GREETING; sleep 600 & wait";
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Workload\nmetadata: {{name: job, namespace: demo}}\nspec:\n  command: [/bin/sh, -c, '{script}']\n  env: {{GREETING: alive}}\n"
    );
    std::fs::write(folder.join("job.yaml"), &text).unwrap();
    text
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|t| t.ends_with('\n'))
}

/// A process that has ended and that nobody has asked about is not alive.
fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn start(folder: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(WEIR);
    command.args(["up", "--api", "127.0.0.1:0", "--no-sidecars", "-f"]).arg(folder).args(more);
    command.env("TMPDIR", folder).env("WEIR_TOKEN", "not for children").env("HTTP_PROXY", "");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

fn temporary_folders(folder: &Path) -> usize {
    std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("weir-up-"))
        .count()
}

#[test]
fn one_signal_ends_everything_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    workload(folder.path());
    let mut weir = start(folder.path(), &[]);
    let lines = BufReader::new(weir.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    for line in lines {
        let last = line.contains("Ctrl-C stops it");
        seen.push(line);
        if last {
            break;
        }
    }
    assert!(seen.iter().any(|l| l.contains("job")), "{seen:?}");
    let pid: i32 = until("its pid", || read(&folder.path().join("job.pid"))).trim().parse().unwrap();
    let env = until("its environment", || read(&folder.path().join("job.env")));
    assert!(
        env.contains("WEIR_NAMESPACE=demo\n")
            && env.contains("WEIR_WORKLOAD=job\n")
            && env.contains("GREETING=alive\n")
    );
    assert!(!env.contains("not for children"));
    assert!(alive(pid));
    assert_eq!(temporary_folders(folder.path()), 1);

    kill(Pid::from_raw(i32::try_from(weir.id()).unwrap()), Signal::SIGINT).unwrap();
    let status = until("the end", || weir.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!alive(pid));
    assert_eq!(temporary_folders(folder.path()), 0);
}

#[test]
fn killed_with_9_it_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    workload(folder.path());
    let mut weir = start(folder.path(), &["--quiet"]);
    let pid: i32 = until("its pid", || read(&folder.path().join("job.pid"))).trim().parse().unwrap();
    weir.kill().unwrap();
    weir.wait().unwrap();
    until("the application is gone", || (!alive(pid)).then_some(()));
    until("the folder is gone", || (temporary_folders(folder.path()) == 0).then_some(()));
}

#[test]
fn a_wrong_document_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    workload(folder.path());
    std::fs::write(folder.path().join("bad.yaml"), "kind: Nothing\n").unwrap();
    let output = start(folder.path(), &[]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad.yaml:1"), "{output:?}");
    assert!(!folder.path().join("job.pid").exists());
}

#[tokio::test]
async fn the_control_plane_as_a_child_comes_back_with_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let documents = weir_config::resources::parse("job.yaml", &workload(folder.path())).unwrap();
    let options = up::Options {
        folder: folder.path().into(),
        control_plane_program: Some(CONTROL_PLANE.into()),
        sidecars: false,
        logs: logs::Options { quiet: true, folder: Some(folder.path().join("logs")), to_stderr: false },
        ..up::Options::new(documents)
    };
    let mesh = Mesh::start(options).await.unwrap();
    let version = async || mesh.client().get::<Version>("/api/v1/version").await.map(|v| v.resource_version);
    assert_eq!(version().await.unwrap(), 1);
    mesh.kill(up::CONTROL_PLANE).await.unwrap();
    assert!(version().await.is_err());
    let states = mesh.children();
    assert!(states.iter().any(|c| &*c.name == "job" && matches!(c.state, State::Running { .. })), "{states:?}");
    mesh.start(up::CONTROL_PLANE).await.unwrap();
    mesh.ready(up::CONTROL_PLANE, Duration::from_secs(30)).await.unwrap();
    assert_eq!(version().await.unwrap(), 1);
    assert_eq!(mesh.kill("nobody").await.unwrap_err().code(), 2);
    mesh.stop().await;
    assert!(std::fs::read_to_string(folder.path().join("logs/job.log")).unwrap().contains("I am alive"));
}

#[test]
fn the_demonstration_is_missed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("weir");
    // By another process: what is forked here while a file is written holds it open, and it cannot be run (ETXTBSY).
    assert!(Command::new("cp").arg(WEIR).arg(&alone).status().unwrap().success());
    let output = Command::new(&alone).args(["demo", "--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("weir-demo"), "{output:?}");
}
