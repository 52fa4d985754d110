//! `weir completion <shell>`: a script for the shell that completes verbs and flags.

use super::{Context, failure::Failure};
use clap::Args;
use clap_complete::Shell;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Completion {
    /// Which shell.
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self, context: &mut Context<'_>, command: &mut clap::Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "weir", &mut script);
        let _ = context.out.write_all(&script);
        Ok(())
    }
}
