//! `weir demo …`: hands over to the program `weir-demo` beside this one.

use super::failure::Failure;
use clap::Args;
use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Handed over as they are; `weir demo --help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let remedy = "build it with `cargo build -p weir-demo`, or put weir-demo beside weir";
        let here =
            std::env::current_exe().map_err(|e| Failure::failed(format!("cannot find this program: {e}"), remedy))?;
        let program = here.with_file_name("weir-demo");
        if !program.is_file() {
            return Err(Failure::failed(format!("there is no demonstration at {}", program.display()), remedy));
        }
        let error = Command::new(&program).args(self.arguments).exec();
        Err(Failure::failed(format!("cannot start {}: {error}", program.display()), remedy))
    }
}
