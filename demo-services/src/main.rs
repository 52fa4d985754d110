//! `weir-demo`: the streaming platform, its viewers and its failures, in one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_demo::cli::main()
}
