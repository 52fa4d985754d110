//! `weir-bench`: the side-by-side load bench; see the crate's page.

use clap::Parser;
use std::process::ExitCode;
use weir_benches::run::{Args, run};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
