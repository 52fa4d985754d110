//! The command line, `weir`: one file per verb.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done; 1 tried and failed; 2 asked
//! wrongly. Every error says what to do.

mod apply;
mod await_;
mod check;
mod completion;
mod crds;
mod delete;
mod demo;
mod get;
mod inject;
mod input;
mod install;
mod output;
mod rotate_anchor;
mod status;
mod token;
mod up;
mod upgrade;
mod validate;
mod version;

#[cfg(test)]
mod tests;

pub use crate::failure::Failure;

use crate::{client::Client, failure};
use clap::{Args, CommandFactory, Parser, Subcommand};
use output::Format;
use std::{ffi::OsString, io::Write, process::ExitCode};

/// Weir, a service mesh: run a mesh, change it, and see what became of the change.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Weir {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    common: Common,
}

/// What all verbs take.
#[derive(Debug, Clone, Args)]
struct Common {
    /// The control plane's REST API, as host:port.
    #[arg(long, global = true, env = "WEIR_ADDRESS", default_value = "127.0.0.1:15015")]
    address: String,
    /// The control plane's admin token, where it asks for one.
    #[arg(long, global = true, env = "WEIR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The form of what is printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the mesh of a folder on this machine: control plane, applications, sidecars.
    Up(up::Up),
    /// Create or replace documents, all of them or none.
    Apply(apply::Apply),
    /// Show documents.
    Get(get::Get),
    /// Delete documents.
    Delete(delete::Delete),
    /// Check documents without a control plane.
    Validate(validate::Validate),
    /// Put sidecars into manifests of Kubernetes.
    Inject(inject::Inject),
    /// Take them out again.
    Uninject(inject::Uninject),
    /// Ask a cluster whether Weir in it is as it should be, or whether it can be installed.
    Check(check::Check),
    /// Print the manifests that put Weir into a cluster, for `kubectl apply --server-side -f -`.
    Install(install::Install),
    /// Tell what an upgrade of a cluster to this version would do.
    Upgrade(upgrade::Upgrade),
    /// Print them again, for `kubectl delete --ignore-not-found -f -`.
    Uninstall(install::Uninstall),
    /// Show what became of the last changes, and which proxies are connected.
    Status(status::Status),
    /// Start an application when its sidecar is ready.
    Await(await_::Await),
    /// Make join tokens.
    Token(token::Token),
    /// Exchange the mesh's root for a new one, phase by phase, or show how far that is.
    RotateAnchor(rotate_anchor::RotateAnchor),
    /// Show the versions of this program and of the control plane.
    Version(version::Version),
    /// Print Weir's kinds as CustomResourceDefinitions for Kubernetes.
    Crds(crds::Crds),
    /// Print a completion script for a shell.
    Completion(completion::Completion),
    /// Run the demonstration: a small streaming platform, with failures to inject.
    #[command(disable_help_flag = true)]
    Demo(demo::Demo),
}

/// What a verb works with.
struct Context<'a> {
    common: &'a Common,
    out: &'a mut dyn Write,
}

impl Context<'_> {
    fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.common.address, self.common.token.clone())
    }

    fn print<T: serde::Serialize>(&mut self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        output::print(self.out, self.common.output, value, table)
    }
}

/// The whole program: arguments, a runtime, the verb, the exit code.
pub fn main() -> ExitCode {
    let weir = Weir::parse();
    let mut runtime = match weir.verb {
        // Many children, an embedded control plane.
        Verb::Up(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let result = match runtime.enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(async {
                match weir.verb {
                    // Its end is its application's.
                    Verb::Await(verb) => verb.run().await,
                    _ => run(weir, &mut std::io::stdout()).await.map(|()| ExitCode::SUCCESS),
                }
            });
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            result
        }
        Err(e) => Err(Failure::failed(format!("cannot start: {e}"), "")),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

/// Reads arguments as the program does, the program's name first.
///
/// # Errors
/// What clap says: also `--help` and `--version` are its errors.
pub fn parse<I: IntoIterator<Item = T>, T: Into<OsString> + Clone>(arguments: I) -> Result<Weir, clap::Error> {
    Weir::try_parse_from(arguments)
}

/// Does what was asked; results go to `out`.
///
/// # Errors
/// Why it was not done.
pub async fn run(weir: Weir, out: &mut dyn Write) -> Result<(), Failure> {
    let mut context = Context { common: &weir.common, out };
    match weir.verb {
        Verb::Up(verb) => verb.run(&mut context).await,
        Verb::Apply(verb) => verb.run(&mut context).await,
        Verb::Get(verb) => verb.run(&mut context).await,
        Verb::Delete(verb) => verb.run(&mut context).await,
        Verb::Validate(verb) => verb.run(&mut context),
        Verb::Inject(verb) => verb.run(&mut context),
        Verb::Uninject(verb) => verb.run(&mut context),
        Verb::Check(verb) => verb.run(&mut context).await,
        Verb::Install(verb) => verb.run(&mut context),
        Verb::Uninstall(verb) => verb.run(&mut context),
        Verb::Upgrade(verb) => verb.run(&mut context).await,
        Verb::Status(verb) => verb.run(&mut context).await,
        Verb::Token(verb) => verb.run(&mut context).await,
        Verb::RotateAnchor(verb) => verb.run(&mut context).await,
        Verb::Version(verb) => verb.run(&mut context).await,
        Verb::Crds(verb) => verb.run(&mut context),
        Verb::Completion(verb) => verb.run(&mut context, &mut Weir::command()),
        Verb::Demo(verb) => verb.run(),
        Verb::Await(_) => {
            Err(Failure::usage("`weir await` ends with its application, so it is a program of its own", ""))
        }
    }
}
