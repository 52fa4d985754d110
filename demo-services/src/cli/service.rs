//! `weir-demo service <name>`: one instance, until SIGTERM.

use super::{Failure, PeersArgs, signals};
use crate::app;
use clap::Args;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Service {
    /// Which: web, profiles, catalog, recommendations, playback, video, analytics or billing.
    name: String,
    /// Where it takes requests.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where it takes faults (`POST /__fault {"delay_ms": 0, "error_percent": 0}`) and tells its numbers (`/stats`).
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// A folder for what must survive a restart; nothing is kept without.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    peers: PeersArgs,
}

impl Service {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let stop = signals()?;
        let peers = self.peers.read()?;
        let options =
            app::Options { service: self.name.clone(), listen: self.listen, admin: self.admin, peers, data: self.data };
        let running = app::start(options).await?;
        println!("{} listens on {}", self.name, running.address);
        stop.cancelled().await;
        running.stop().await;
        Ok(ExitCode::SUCCESS)
    }
}
