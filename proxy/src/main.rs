//! `weir-proxy`: arguments, log, signals, exit codes.
//!
//! 0: ended when told to, all work finished. 1: work was cut, or it could not start. 2: the arguments make no sense.

use clap::Parser;
use std::{io::Read, process::ExitCode, thread, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use weir_proxy::{
    admin::{self, Command, Logging},
    app::{self, Ended, Running},
    descriptors, handover,
    options::{Args, Options},
};

/// Requests live from many small allocations: this takes half of the system allocator's instructions for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let await_ready = args.await_ready.map(Duration::from_secs);
    let options = match args.resolve() {
        Ok(options) => options,
        Err(error) => return fail(&error, 2),
    };
    if let Some(patience) = await_ready {
        return match admin::wait(options.listen.health, patience) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why, 1),
        };
    }
    let room = descriptors::make_room();
    let logging = match Logging::start(&options.log, options.log_format) {
        Ok(logging) => logging,
        Err(error) => return fail(&error, 2),
    };
    if let Err(error) = room {
        tracing::warn!(%error, "no more descriptors than before: see `ulimit -n`");
    }
    // The library's own hook writes to the terminal; who reads our log must see it there.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a defect: please report it")));
    match run(options, logging) {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Cut) => ExitCode::FAILURE,
        Err(error) => fail(&error, 1),
    }
}

fn run(options: Options, logging: Logging) -> Result<Ended, app::StartError> {
    let with_parent = options.exit_with_parent;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything is started: a signal that comes meanwhile must not kill us unfinished.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut before = match &options.upgrade.from {
            Some(path) => handover::ask(path).await?,
            None => None,
        };
        match (&options.upgrade.from, &before) {
            (_, Some(before)) => tracing::info!(sockets = before.count(), "sockets of the process before"),
            (Some(path), None) => tracing::info!(path = %path.display(), "nobody is there to take over from"),
            (None, None) => {}
        }
        let mut running = app::start(options, logging, before.as_mut())?;
        if with_parent {
            watch_parent(running.commands())?;
        }
        if let Some(before) = before {
            tokio::select! {
                taken = running.take_over(before) => taken?,
                _ = terminate.recv() => return Ok(Ended::Cut),
                _ = interrupt.recv() => return Ok(Ended::Cut),
            }
        }
        let mut signals = 0;
        loop {
            tokio::select! {
                ended = running.ended() => return Ok(ended),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            signals += 1;
            obey(&running, signals);
        }
    })
}

/// The first signal asks for an orderly end, the second for an end.
fn obey(running: &Running, signals: u32) {
    if signals == 1 { running.drain() } else { running.quit() }
}

/// Whoever started us holds the other end of our standard input: when it ends, they are gone.
fn watch_parent(commands: mpsc::Sender<Command>) -> std::io::Result<()> {
    let watch = move || {
        let mut input = std::io::stdin().lock();
        let mut ignored = [0; 256];
        while !matches!(input.read(&mut ignored), Ok(0) | Err(_)) {}
        let _ = commands.blocking_send(Command::Drain);
    };
    thread::Builder::new().name("weir-parent".into()).spawn(watch).map(drop)
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("weir-proxy: {error}");
    ExitCode::from(code)
}
