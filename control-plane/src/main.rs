//! `weir-control-plane`: arguments, a runtime, signals, exit codes (0 ended as asked; 1 cannot run; 2 asked wrongly).

use clap::Parser;
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{filter::Targets, fmt as format, prelude::*};
use weir_control_plane::app::{App, Settings};

/// Weir's control plane: documents in, configured sidecars out.
#[derive(Debug, Parser)]
#[command(name = "weir-control-plane", version)]
struct Arguments {
    /// A YAML file with the same settings: `api: 127.0.0.1:15015`, `caCert: …`. Flags and environment win.
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, or per module as `weir_control_plane::xds=debug`.
    #[arg(long, env = "WEIR_LOG", default_value = "info")]
    log: String,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), (u8, String)> {
    let filter: Targets = arguments.log.parse().map_err(|e| (2, format!("--log `{}`: {e}", arguments.log)))?;
    tracing_subscriber::registry().with(format::layer().with_writer(std::io::stderr)).with(filter).init();
    let file = arguments.config.as_deref().map(Settings::load).transpose().map_err(|e| (2, e))?;
    let options = arguments.settings.or(file.unwrap_or_default()).options().map_err(|e| (2, e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| (1, format!("cannot start threads: {e}")))?;
    let ended = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|e| (1, format!("cannot listen for signals: {e}")));
        let (mut int, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut hup = listen(SignalKind::hangup())?;
        let running = tokio::select! {
            started = App::start(options) => started.map_err(|e| (1, e.to_string()))?,
            _ = int.recv() => return Ok(()),
            _ = term.recv() => return Ok(()),
        };
        loop {
            tokio::select! {
                _ = int.recv() => break,
                _ = term.recv() => break,
                // As daemons do: read again what was given as files.
                _ = hup.recv() => match running.reload(SystemTime::now()) {
                    Ok(changed) => tracing::info!(changed, "the issuing certificate was read again"),
                    Err(error) => tracing::error!(%error, "the issuing certificate stays as it was"),
                },
            }
        }
        tracing::info!("ending");
        tokio::select! {
            () = running.shutdown() => {}
            _ = int.recv() => {}
        }
        Ok(())
    });
    // A call to a store that is away has threads of its own, for which nobody waits.
    runtime.shutdown_timeout(Duration::from_secs(5));
    ended
}
