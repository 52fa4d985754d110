//! In which order the functions of the sidecar lie in its program.
//!
//! The kernel maps the pages around the one that is touched, so that a program whose needed functions are strewn over
//! all of it is soon all in memory. `proxy/order.txt` tells the linker to put together what runs for requests, then what
//! runs at the start, before the rest; `weir-bench order` writes it from a run under callgrind. A name in it that the
//! program does not have any more (another compiler, another version of a library) does no harm.

use crate::{callgrind, contestant::Failure, peers::weir, scenario::Scenario};
use std::path::PathBuf;

/// Writes the order.
#[derive(Debug, clap::Args)]
pub struct Order {
    /// Where it goes [default: proxy/order.txt of the checkout].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a sidecar is usually asked for.
const LOADS: [Scenario; 4] = [Scenario::Http1, Scenario::Grpc, Scenario::Connect, Scenario::Large];

/// Runs the loads and writes what they needed.
pub fn run(order: &Order) -> Result<(), Failure> {
    let binaries = weir::Binaries::find()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let functions = runtime.block_on(callgrind::functions(&binaries, &LOADS))?;
    let functions = functions.ok_or("valgrind is not installed: run tests/setup")?;
    // Only names of Rust and C: what valgrind made up itself is nobody's.
    let is_name = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.$".contains(c));
    let requests: Vec<&str> = functions.requests.iter().filter(is_name).map(String::as_str).collect();
    let start = functions.start.difference(&functions.requests);
    let start: Vec<&str> = start.filter(is_name).map(String::as_str).collect();
    let file =
        order.output.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy/order.txt").into());
    std::fs::write(&file, [&requests[..], &start[..]].concat().join("\n") + "\n")?;
    println!("{} functions of requests, {} more of the start, in {}", requests.len(), start.len(), file.display());
    Ok(())
}
