//! `weir`, the command line. All of it is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_control_plane::cli::main()
}
