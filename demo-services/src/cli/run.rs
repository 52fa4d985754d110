//! `weir-demo` and `weir-demo run`: all of it on this machine, with a page, until Ctrl-C.

use super::{Failure, signals, viewers::Traffic};
use crate::{
    board::{Board, Numbers},
    stage::{Options, Stage},
};
use clap::{Args, ValueEnum};
use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// With or without sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnOff {
    On,
    Off,
}

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Whether each instance has a sidecar beside it.
    #[arg(long, value_enum, default_value = "on")]
    mesh: OnOff,
    #[command(flatten)]
    traffic: Traffic,
    /// Where the page is.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    page: SocketAddr,
    /// A folder for the lines of all processes.
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
    /// The sidecar's program; without: `weir-proxy` beside this program.
    #[arg(long, env = "WEIR_PROXY_BIN", value_name = "PATH")]
    proxy_bin: Option<PathBuf>,
    /// Ends after so many seconds; without: at Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
}

impl Run {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let stop = signals()?;
        let options = Options {
            mesh: self.mesh == OnOff::On,
            viewers: self.traffic.options(),
            logs: self.logs.clone(),
            proxy_program: self.proxy_bin.clone(),
        };
        eprintln!(
            "starting {} applications{} …",
            crate::stage::processes(),
            if options.mesh { ", each with a sidecar" } else { "" }
        );
        let stage = tokio::select! {
            stage = Stage::start(options) => Arc::new(stage?),
            () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
        };
        if let Some(seconds) = self.seconds {
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                stop.cancel();
            });
        }
        let board = Board::new(stage.clone());
        let mut tasks = JoinSet::new();
        let served = board.serve(self.page, &stop, &mut tasks).await;
        if let Ok(page) = &served {
            println!("The page is at http://{page}/   (Ctrl-C ends everything)");
            watch(&board, *page, &stop).await;
        }
        stop.cancel();
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(3), ended).await;
        tasks.shutdown().await;
        drop(board);
        // With all tasks gone nobody else holds the stage; if somebody does, its end kills the processes all the same.
        if let Some(stage) = Arc::into_inner(stage) {
            stage.stop().await;
        }
        served?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The live summary: a table that is drawn again on a terminal, a line every five seconds otherwise.
async fn watch(board: &Board, page: SocketAddr, stop: &CancellationToken) {
    let terminal = std::io::stdout().is_terminal();
    let mut tick = tokio::time::interval(Duration::from_secs(if terminal { 1 } else { 5 }));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => break,
        }
        let numbers = board.numbers();
        if numbers.at == 0 {
            continue;
        }
        if terminal {
            // Home, the table, and what is left of an older and longer one is wiped.
            print!("\x1b[H\x1b[2J{}\n  http://{page}/   Ctrl-C ends everything\n", table(&numbers));
        } else {
            println!("{}", line(&numbers));
        }
        let _ = std::io::stdout().flush();
    }
}

fn line(n: &Numbers) -> String {
    let worst = n.services.iter().min_by(|a, b| a.success.total_cmp(&b.success));
    let worst = worst.filter(|w| w.success < 99.9).map(|w| format!("; {} {:.1} %", w.name, w.success));
    format!(
        "mesh {}: playback {:.2} %, home p99 {:.0} ms, {:.1} home/s{}",
        if n.mesh { "on" } else { "off" },
        n.felt.playback_success * 100.0,
        n.felt.of("home").p99_ms,
        n.home_rate,
        worst.unwrap_or_default()
    )
}

fn table(n: &Numbers) -> String {
    let mut text = format!("  {}\n\n", line(n));
    let _ = writeln!(
        text,
        "  {:<16} {:>8} {:>9} {:>9} {:>9}   instances",
        "service", "rate/s", "success", "p50 ms", "p99 ms"
    );
    for s in &n.services {
        let mark = |r: &crate::board::Replica| match (r.alive, r.harm) {
            (false, _) => '✗',
            (true, Some(_)) => '!',
            (true, None) => '●',
        };
        let marks: String = s.instances.iter().map(mark).collect();
        let _ = writeln!(
            text,
            "  {:<16} {:>8.1} {:>7.1} % {:>9.1} {:>9.1}   {marks}",
            s.name, s.rate, s.success, s.p50_ms, s.p99_ms
        );
    }
    text
}
