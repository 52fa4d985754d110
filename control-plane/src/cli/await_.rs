//! `weir await -- command`: starts an application when its sidecar is ready, and, if told to, ends the sidecar when the
//! application has ended.
//!
//! An application that calls others at its start fails when its sidecar is not there yet; a job that has ended does not
//! free its pod while the sidecar runs on.

use super::failure::Failure;
use clap::Args;
use nix::{
    sys::signal::{Signal as Number, kill},
    unistd::Pid,
};
use std::{
    ffi::OsString,
    io::IsTerminal,
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, timeout},
};

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(50);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const LONGEST: u64 = 16 * 1024;
/// What shells say of a command that a signal has ended, and of one that is not there or may not be run.
const BY_SIGNAL: u8 = 128;
const NOT_THERE: u8 = 127;
const NOT_RUN: u8 = 126;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Await {
    /// Where the sidecar says whether it is ready.
    #[arg(long, env = "WEIR_HEALTH", default_value = "127.0.0.1:15021", value_name = "ADDRESS")]
    health: SocketAddr,
    /// Where the sidecar takes commands.
    #[arg(long, env = "WEIR_ADMIN", default_value = "127.0.0.1:15000", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// How long to wait for the sidecar; then the application is not started, and this fails.
    #[arg(long, value_parser = crate::duration::parse, default_value = "60s", value_name = "TIME")]
    timeout: Duration,
    /// When the application has ended, tell the sidecar to end too; it must run with --allow-quit.
    #[arg(long)]
    shutdown: bool,
    /// Run nothing: copy this program into a folder, as `weir`, for a container that does not have it.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["shutdown", "command"])]
    install: Option<PathBuf>,
    /// The application and its arguments.
    #[arg(last = true, required_unless_present = "install", value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Await {
    /// Ends with the application's exit code (128 and the signal's number if it was killed).
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        if let Some(folder) = &self.install {
            return install(folder);
        }
        // Before anything else: a signal that comes while we wait is for the application.
        let mut signals = Signals::new()?;
        tokio::select! {
            ready = self.ready() => ready?,
            number = signals.next() => return Ok(ended_by(number)),
        }
        if !self.shutdown {
            // Nothing is left to do: the application takes our place, with our process id.
            let error = self.program().as_std_mut().exec();
            return Ok(self.not_started(&error));
        }
        let status = match self.program().spawn() {
            Ok(child) => Some(see(child, &mut signals).await?),
            Err(error) => {
                self.not_started(&error);
                None
            }
        };
        if let Err(why) = self.end_sidecar().await {
            eprintln!("weir await: the sidecar at {} was not told to end: {why}", self.admin);
        }
        Ok(status.map_or(ExitCode::from(NOT_THERE), code))
    }

    fn program(&self) -> Command {
        let mut program = Command::new(&self.command[0]);
        program.args(&self.command[1..]);
        program
    }

    fn not_started(&self, error: &std::io::Error) -> ExitCode {
        eprintln!("weir await: cannot start {}: {error}", self.command[0].display());
        ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { NOT_THERE } else { NOT_RUN })
    }

    async fn ready(&self) -> Result<(), Failure> {
        let limit = Instant::now() + self.timeout;
        loop {
            let why = match ask(self.health, "GET /readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((_, text)) => text,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= limit {
                return Err(Failure::failed(
                    format!("the sidecar at {} is not ready after {:?}: {}", self.health, self.timeout, why.trim()),
                    "is it running there? Say where with --health; allow more time with --timeout",
                ));
            }
            sleep(INTERVAL).await;
        }
    }

    async fn end_sidecar(&self) -> Result<(), String> {
        match ask(self.admin, "POST /quitquitquit").await {
            Ok((200, _)) => Ok(()),
            Ok((_, text)) => Err(text.trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Copies this program.
fn install(folder: &Path) -> Result<ExitCode, Failure> {
    let to = folder.join("weir");
    let copied = std::env::current_exe().and_then(|program| std::fs::copy(program, &to));
    // Its permissions come with it.
    let failed =
        |e| Failure::failed(format!("cannot copy this program to {}: {e}", to.display()), "name another folder");
    copied.map(|_| ExitCode::SUCCESS).map_err(failed)
}

/// Passes signals on until the child has ended.
async fn see(mut child: tokio::process::Child, signals: &mut Signals) -> Result<ExitStatus, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("cannot wait for the application: {e}"), "");
    loop {
        tokio::select! {
            ended = child.wait() => return ended.map_err(failed),
            number = signals.next() => {
                // From a terminal they go to the whole group: the application has it already.
                let has_it = matches!(number, Number::SIGINT | Number::SIGQUIT) && std::io::stdin().is_terminal();
                if let Some(id) = child.id().filter(|_| !has_it) {
                    let _ = kill(Pid::from_raw(id.cast_signed()), number);
                }
            }
        }
    }
}

fn code(status: ExitStatus) -> ExitCode {
    let by_signal = || status.signal().map_or(1, |n| BY_SIGNAL.saturating_add(n as u8));
    ExitCode::from(status.code().map_or_else(by_signal, |code| code as u8))
}

fn ended_by(number: Number) -> ExitCode {
    ExitCode::from(BY_SIGNAL.saturating_add(number as u8))
}

/// The status and text of a page.
async fn ask(address: SocketAddr, what: &str) -> std::io::Result<(u16, String)> {
    let asked = async {
        let mut tcp = TcpStream::connect(address).await?;
        let request = format!("{what} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        tcp.take(LONGEST).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.map(|status| (status, body.to_owned())).ok_or_else(|| std::io::Error::other("this is no HTTP"))
    };
    timeout(ANSWER, asked).await.unwrap_or_else(|_| Err(std::io::Error::other(format!("no answer within {ANSWER:?}"))))
}

/// Those that are meant for applications.
struct Signals {
    all: Vec<(Number, Signal)>,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let numbers =
            [Number::SIGTERM, Number::SIGINT, Number::SIGHUP, Number::SIGQUIT, Number::SIGUSR1, Number::SIGUSR2];
        let listen = |number: Number| {
            let listening = signal(SignalKind::from_raw(number as i32));
            let failed = |e| Failure::failed(format!("cannot listen for signals: {e}"), "");
            listening.map(|signal| (number, signal)).map_err(failed)
        };
        Ok(Self { all: numbers.into_iter().map(listen).collect::<Result<_, _>>()? })
    }

    async fn next(&mut self) -> Number {
        let all = self.all.iter_mut().map(|(number, signal)| {
            let number = *number;
            Box::pin(async move {
                signal.recv().await;
                number
            })
        });
        futures::future::select_all(all).await.0
    }
}
