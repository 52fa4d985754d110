//! `weir-bench`: the side-by-side load bench; see the crate's page.

use clap::Parser;
use std::process::ExitCode;
use weir_benches::{
    cli::{Cli, Command},
    flame, gate, order,
    peers::relay,
    profile, run,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match &cli.command {
        None => run::run(&cli.args),
        Some(Command::Relay(ends)) => relay::run(ends),
        Some(Command::Gate(arguments)) => gate::run(arguments),
        Some(Command::Flame(arguments)) => flame::run(arguments),
        Some(Command::Order(arguments)) => order::run(arguments),
        Some(Command::Profile) => profile::run(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
