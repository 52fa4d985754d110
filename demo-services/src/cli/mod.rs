//! The command line of `weir-demo`: a room for each verb.

mod run;
mod scenarios;
mod service;
mod viewers;

use crate::peers::{Peers, PeersError};
use clap::{Args, Parser, Subcommand};
use std::{future::Future, net::SocketAddr, process::ExitCode};
use tokio_util::sync::CancellationToken;

/// A small streaming platform, its viewers, and the failures that they should not feel.
///
/// Without a command: starts all of it on this machine, with the mesh, and tells the address of a page.
#[derive(Debug, Parser)]
#[command(name = "weir-demo", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All of it on this machine, with a page; the same as no command.
    Run(Box<run::Run>),
    /// Each failure with the mesh and without; writes who was hurt, and fails when a promise does not hold.
    Scenarios(scenarios::Scenarios),
    /// One instance of one service.
    Service(service::Service),
    /// The viewers only; prints what they felt.
    Viewers(viewers::Viewers),
}

/// Why a verb failed.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => large(cli.run.run()),
        Some(Command::Run(verb)) => large(verb.run()),
        Some(Command::Scenarios(verb)) => large(verb.run()),
        Some(Command::Service(verb)) => small(verb.run()),
        Some(Command::Viewers(verb)) => small(verb.run()),
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// How calls to others go.
#[derive(Debug, Args)]
struct PeersArgs {
    /// The sidecar's outbound address.
    #[arg(long, env = "WEIR_OUTBOUND", value_name = "ADDRESS")]
    outbound: Option<SocketAddr>,
    /// Without a sidecar: `service=address,address;service=address`.
    #[arg(long, env = "DEMO_PEERS", value_name = "LIST")]
    peers: Option<String>,
}

impl PeersArgs {
    /// A list of instances is stronger than a sidecar.
    fn read(&self) -> Result<Peers, PeersError> {
        match (&self.peers, self.outbound) {
            (Some(list), _) => Peers::parse_direct(list),
            (None, Some(sidecar)) => Ok(Peers::Mesh(sidecar)),
            (None, None) => Ok(Peers::Direct(std::collections::BTreeMap::new())),
        }
    }
}

/// A runtime of one thread: many of these processes share a small machine.
fn small(verb: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(verb)
}

/// A runtime for the control plane and the page.
fn large(verb: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(verb)
}

/// A token that is cancelled by the first SIGINT or SIGTERM.
fn signals() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = CancellationToken::new();
    let stop = told.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    Ok(told)
}
