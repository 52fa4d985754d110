//! `weir-demo viewers`: the traffic alone, against a platform that is there already.

use super::{Failure, PeersArgs, signals};
use crate::{
    app,
    stats::Timeline,
    viewers::{self, Options, Report},
};
use clap::Args;
use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Viewers {
    #[command(flatten)]
    traffic: Traffic,
    /// Ends after so many seconds; without: at SIGTERM.
    #[arg(long)]
    seconds: Option<u64>,
    /// Tells the numbers so far here (`/stats?from=&to=`).
    #[arg(long)]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    peers: PeersArgs,
}

/// How many viewers, and what they do.
#[derive(Debug, Clone, Args)]
pub(super) struct Traffic {
    /// Viewers who come in a second, on average.
    #[arg(long, default_value_t = Options::default().rate)]
    rate: f64,
    /// The same seed, the same viewers at the same moments.
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
    /// Segments that each of them watches.
    #[arg(long, default_value_t = Options::default().segments)]
    segments: u32,
    /// How many bytes of each segment they fetch.
    #[arg(long, default_value_t = Options::default().segment_bytes)]
    segment_bytes: u64,
}

impl Traffic {
    pub(super) fn options(&self) -> Options {
        let Self { rate, seed, segments, segment_bytes } = *self;
        Options { rate, seed, segments, segment_bytes, length: None }
    }
}

impl Viewers {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let stop = signals()?;
        let timeline = Arc::new(Timeline::default());
        let mut pages = JoinSet::new();
        if let Some(at) = self.listen {
            app::serve(at, app::stats(timeline.clone()), &stop, &mut pages).await?;
        }
        let options = Options { length: self.seconds.map(Duration::from_secs), ..self.traffic.options() };
        viewers::run(options, self.peers.read()?, timeline.clone(), stop).await;
        print!("{}", Report::new(&timeline.window(0, u64::MAX)));
        Ok(ExitCode::SUCCESS)
    }
}
