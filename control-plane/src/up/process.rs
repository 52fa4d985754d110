//! One child process: started in a process group of its own, watched, started again with growing back-off when it fails.
//!
//! ```text
//! Running ──exits by itself──▶ Waiting (back-off) ──▶ Running        every exit is said in the log, with its status
//!    │        └─ exit 0 of an application, or restart: never ─▶ Stopped
//!    └──kill / terminate──▶ Stopped ──start──▶ Running               what was stopped on purpose stays stopped
//! ```

use super::{guardian::Guardian, logs::Logs};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// The first wait before a failed child is started again; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A child that ran for so long begins anew with the first wait.
const STEADY: Duration = Duration::from_secs(10);

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A workload's own program.
    Application,
    /// The sidecar beside it.
    Sidecar,
    /// The control plane.
    ControlPlane,
}

/// Whether a child that ended by itself is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// After a failure only (a status other than 0, or a signal).
    #[default]
    OnFailure,
    /// Whatever its status.
    Always,
    /// Never.
    Never,
}

/// What is started, and how.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name in logs and for [`Process`]'s callers.
    pub name: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Set on top of this process's own environment.
    pub env: Vec<(String, String)>,
    /// Taken out of it first.
    pub env_remove: Vec<String>,
    /// Where it runs; `None`: here.
    pub folder: Option<PathBuf>,
    /// Its standard input stays an open pipe for as long as this process lives (see `weir-proxy --exit-with-parent`).
    pub leash: bool,
    /// Whether it is started again.
    pub restart: Restart,
    /// How long it may take to end after SIGTERM.
    pub grace: Duration,
}

/// What a child is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// It runs.
    Running {
        /// Its process, which is its process group too.
        pid: u32,
    },
    /// It failed, and will be started again.
    Waiting {
        /// How it ended.
        last: String,
    },
    /// It does not run and will not by itself.
    Stopped {
        /// How it ended.
        last: Option<String>,
    },
}

/// A child, seen from outside.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// What it is doing.
    #[serde(flatten)]
    pub state: State,
    /// How often it was started again after it failed.
    pub restarts: u32,
}

/// A handle of a supervised child.
#[derive(Debug)]
pub struct Process {
    name: Arc<str>,
    orders: mpsc::Sender<Order>,
    view: Arc<Mutex<View>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Order {
    Start(oneshot::Sender<io::Result<()>>),
    /// With this signal, and SIGKILL after the grace.
    Stop(Signal, oneshot::Sender<()>),
    /// SIGTERM, SIGKILL after the grace, and the supervisor ends.
    Finish,
}

impl Process {
    /// Starts the child and its supervisor.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(spec: Spec, logs: &Logs, guardian: Arc<Guardian>) -> io::Result<Self> {
        let view = Arc::new(Mutex::new(View {
            name: spec.name.clone(),
            role: spec.role,
            state: State::Stopped { last: None },
            restarts: 0,
        }));
        let name = spec.name.clone();
        let (orders, inbox) = mpsc::channel(16);
        let mut supervisor = Supervisor { spec, logs: logs.clone(), guardian, inbox, view: view.clone() };
        let child = supervisor.spawn()?;
        let task = Mutex::new(Some(tokio::spawn(supervisor.run(child))));
        Ok(Self { name, orders, view, task })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is doing now.
    pub fn view(&self) -> View {
        self.view.lock().clone()
    }

    /// SIGKILL to its whole group; it stays down until [`Self::resume`]. Returns when it is gone.
    pub async fn kill(&self) {
        self.stop(Signal::SIGKILL).await;
    }

    /// SIGTERM, SIGKILL after its grace; it stays down until [`Self::resume`]. Returns when it is gone.
    pub async fn terminate(&self) {
        self.stop(Signal::SIGTERM).await;
    }

    /// Starts it again at once, if it does not run.
    ///
    /// # Errors
    /// The program cannot be started.
    pub async fn resume(&self) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the mesh is being stopped");
        self.orders.send(Order::Start(tx)).await.map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?
    }

    /// Asks it to end for good; [`Self::gone`] waits for it.
    pub fn finish(&self) {
        // A full inbox cannot be: orders are awaited one by one; a closed one means that it is over.
        let _ = self.orders.try_send(Order::Finish);
    }

    /// Waits for the end after [`Self::finish`].
    pub async fn gone(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    async fn stop(&self, signal: Signal) {
        let (tx, rx) = oneshot::channel();
        if self.orders.send(Order::Stop(signal, tx)).await.is_ok() {
            let _ = rx.await;
        }
    }
}

/// A child that runs. Dropping it kills its group.
struct Live {
    child: Child,
    /// Held open; the child ends at its end.
    _leash: Option<ChildStdin>,
    group: u32,
    since: Instant,
    guardian: Arc<Guardian>,
}

impl Live {
    fn signal(&self, signal: Signal) {
        if let Ok(group) = i32::try_from(self.group) {
            // An error means that nobody is left in the group, which is what was wanted.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Also after an exit: what the child itself started and left behind.
        self.signal(Signal::SIGKILL);
        self.guardian.ended(self.group);
    }
}

/// Why a child that ran does not run any more.
enum End {
    ByItself(io::Result<ExitStatus>),
    OnPurpose(Option<oneshot::Sender<()>>),
    Finish,
}

struct Supervisor {
    spec: Spec,
    logs: Logs,
    guardian: Arc<Guardian>,
    inbox: mpsc::Receiver<Order>,
    view: Arc<Mutex<View>>,
}

impl Supervisor {
    async fn run(mut self, first: Live) {
        let mut live = Some(first);
        let mut backoff = FIRST_BACKOFF;
        loop {
            let Some(mut running) = live.take() else {
                match self.stopped().await {
                    Some(next) => live = Some(next),
                    None => return,
                }
                continue;
            };
            let end = self.watch(&mut running).await;
            if running.since.elapsed() >= STEADY {
                backoff = FIRST_BACKOFF;
            }
            drop(running);
            match end {
                End::Finish => return self.set(State::Stopped { last: None }),
                End::OnPurpose(done) => {
                    self.set(State::Stopped { last: Some("stopped on purpose".into()) });
                    done.map(|d| d.send(()));
                }
                End::ByItself(status) => {
                    let last = describe(&status);
                    if !self.wants_restart(&status) {
                        self.say(&last);
                        self.set(State::Stopped { last: Some(last) });
                        continue;
                    }
                    match self.back_off(last, &mut backoff).await {
                        Wait::Again(next) => live = Some(*next),
                        Wait::Stopped => {}
                        Wait::Finish => return,
                    }
                }
            }
        }
    }

    /// Until the child ends, for whatever reason.
    async fn watch(&mut self, live: &mut Live) -> End {
        loop {
            let order = tokio::select! {
                status = live.child.wait() => return End::ByItself(status),
                order = self.inbox.recv() => order,
            };
            match order {
                Some(Order::Start(done)) => drop(done.send(Ok(()))),
                Some(Order::Stop(signal, done)) => {
                    self.end(live, signal).await;
                    return End::OnPurpose(Some(done));
                }
                Some(Order::Finish) | None => {
                    self.end(live, Signal::SIGTERM).await;
                    return End::Finish;
                }
            }
        }
    }

    async fn end(&mut self, live: &mut Live, signal: Signal) {
        live.signal(signal);
        if tokio::time::timeout(self.spec.grace, live.child.wait()).await.is_err() {
            self.say(&format!("did not end within {:?} after {signal}: SIGKILL", self.spec.grace));
            live.signal(Signal::SIGKILL);
            let _ = live.child.wait().await;
        }
    }

    /// Does not run until it is told to. `None`: never again.
    async fn stopped(&mut self) -> Option<Live> {
        loop {
            match self.inbox.recv().await? {
                Order::Start(done) => match self.spawn() {
                    Ok(live) => {
                        let _ = done.send(Ok(()));
                        return Some(live);
                    }
                    Err(e) => drop(done.send(Err(e))),
                },
                Order::Stop(_, done) => drop(done.send(())),
                Order::Finish => return None,
            }
        }
    }

    async fn back_off(&mut self, mut last: String, backoff: &mut Duration) -> Wait {
        loop {
            self.say(&format!("{last}; starting it again in {:.1} s", backoff.as_secs_f64()));
            self.set(State::Waiting { last: last.clone() });
            let order = tokio::select! {
                () = tokio::time::sleep(*backoff) => None,
                order = self.inbox.recv() => Some(order),
            };
            *backoff = (*backoff * 2).min(LONGEST_BACKOFF);
            let asked = match order {
                None => None,
                Some(Some(Order::Start(done))) => Some(done),
                Some(Some(Order::Stop(_, done))) => {
                    self.set(State::Stopped { last: Some(last) });
                    let _ = done.send(());
                    return Wait::Stopped;
                }
                Some(Some(Order::Finish) | None) => return Wait::Finish,
            };
            self.view.lock().restarts += 1;
            match self.spawn() {
                Ok(live) => {
                    asked.map(|d| d.send(Ok(())));
                    return Wait::Again(Box::new(live));
                }
                Err(e) => {
                    last = format!("cannot be started: {e}");
                    asked.map(|d| d.send(Err(e)));
                }
            }
        }
    }

    fn wants_restart(&self, status: &io::Result<ExitStatus>) -> bool {
        match self.spec.restart {
            Restart::Always => true,
            Restart::Never => false,
            Restart::OnFailure => !status.as_ref().is_ok_and(ExitStatus::success),
        }
    }

    fn spawn(&mut self) -> io::Result<Live> {
        let spec = &self.spec;
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .stdin(if spec.leash { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for name in &spec.env_remove {
            command.env_remove(name);
        }
        command.envs(spec.env.iter().map(|(k, v)| (k, v)));
        if let Some(folder) = &spec.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn()?;
        let Some(group) = child.id() else { return Err(io::Error::other("it ended at once")) };
        self.guardian.started(group);
        let pen = self.logs.pen(&spec.name);
        // The copies end by themselves when the last process that holds the pipe is gone.
        if let Some(out) = child.stdout.take() {
            tokio::spawn(pen.clone().copy(out));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(pen.copy(err));
        }
        let leash = child.stdin.take();
        self.set(State::Running { pid: group });
        Ok(Live { child, _leash: leash, group, since: Instant::now(), guardian: self.guardian.clone() })
    }

    fn say(&self, text: &str) {
        self.logs.pen("weir").line(&format!("{}: {text}", self.spec.name));
    }

    fn set(&self, state: State) {
        self.view.lock().state = state;
    }
}

enum Wait {
    Again(Box<Live>),
    Stopped,
    Finish,
}

fn describe(status: &io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Err(e) => format!("lost: {e}"),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(n)) => match Signal::try_from(n) {
                Ok(signal) => format!("was ended by {signal}"),
                Err(_) => format!("was ended by signal {n}"),
            },
            (None, None) => "ended".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::logs;
    use std::path::Path;

    fn shell(name: &str, script: &str, restart: Restart) -> Spec {
        Spec {
            name: name.into(),
            role: Role::Application,
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("GREETING".into(), "hello".into())],
            env_remove: vec!["PATH_NOT_THERE".into()],
            folder: None,
            leash: false,
            restart,
            grace: Duration::from_secs(5),
        }
    }

    fn start(spec: Spec, folder: &Path) -> (Process, Logs) {
        let logs = Logs::start(&logs::Options { quiet: true, folder: Some(folder.into()), to_stderr: false }).unwrap();
        let guardian = Arc::new(Guardian::start(None).unwrap());
        (Process::start(spec, &logs, guardian).unwrap(), logs)
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_failure_is_said_and_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let (process, _logs) = start(shell("bad", "echo $GREETING; exit 3", Restart::OnFailure), folder.path());
        until("two restarts", || process.view().restarts >= 2).await;
        process.finish();
        process.gone().await;
        let said = std::fs::read_to_string(folder.path().join("weir.log")).unwrap();
        assert!(said.contains("bad: exited with status 3; starting it again in 0.2 s"), "{said}");
        assert!(std::fs::read_to_string(folder.path().join("bad.log")).unwrap().starts_with("hello\n"));
    }

    #[tokio::test]
    async fn an_orderly_exit_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (process, _logs) = start(shell("job", "exit 0", Restart::OnFailure), folder.path());
        until("stopped", || matches!(process.view().state, State::Stopped { last: Some(_) })).await;
        assert_eq!(process.view().restarts, 0);
    }

    #[tokio::test]
    async fn killed_on_purpose_stays_down_until_started_with_all_it_had_started() {
        let folder = tempfile::tempdir().unwrap();
        let (process, _logs) = start(shell("web", "sleep 600 & wait", Restart::OnFailure), folder.path());
        let State::Running { pid } = process.view().state else { panic!("not running") };
        process.kill().await;
        assert!(matches!(process.view().state, State::Stopped { .. }));
        let group = Pid::from_raw(i32::try_from(pid).unwrap());
        until("the group is empty", || killpg(group, None).is_err()).await;
        process.resume().await.unwrap();
        assert!(matches!(process.view().state, State::Running { .. }));
        process.terminate().await;
        process.finish();
        process.gone().await;
    }

    #[tokio::test]
    async fn what_ignores_sigterm_is_killed_after_its_grace() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = shell("deaf", "trap '' TERM; echo ready; while :; do sleep 1; done", Restart::OnFailure);
        spec.grace = Duration::from_millis(100);
        let (process, _logs) = start(spec, folder.path());
        let log = folder.path().join("deaf.log");
        until("ready", || std::fs::read_to_string(&log).is_ok_and(|t| t.contains("ready"))).await;
        process.finish();
        process.gone().await;
        assert!(std::fs::read_to_string(folder.path().join("weir.log")).unwrap().contains("SIGKILL"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let logs = Logs::start(&logs::Options { quiet: true, folder: None, to_stderr: false }).unwrap();
        let mut spec = shell("none", "", Restart::OnFailure);
        spec.program = "/not/there".into();
        assert!(Process::start(spec, &logs, Arc::new(Guardian::start(None).unwrap())).is_err());
    }
}
