//! `weir-demo scenarios`: each failure with the mesh and without, a report, and an exit code.

use super::{Failure, run::OnOff, signals, viewers::Traffic};
use crate::scenarios::{self, Options};
use clap::Args;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Scenarios {
    /// Shorter failures, smaller segments.
    #[arg(long)]
    short: bool,
    /// Only scenarios with this in their name; may be repeated.
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Only with the mesh, or only without.
    #[arg(long, value_enum)]
    mesh: Option<OnOff>,
    /// The folder for report.md, report.json and the processes' logs.
    #[arg(long, default_value = "weir-demo-report", value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    traffic: Traffic,
    /// The sidecar's program; without: `weir-proxy` beside this program.
    #[arg(long, env = "WEIR_PROXY_BIN", value_name = "PATH")]
    proxy_bin: Option<PathBuf>,
    /// Says which scenarios there are, and runs none.
    #[arg(long)]
    list: bool,
}

impl Scenarios {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        if self.list {
            for s in scenarios::all() {
                println!("{:<27} {}", s.name, s.what);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let stop = signals()?;
        let results = scenarios::run(&self.options(), &stop).await?;
        if stop.is_cancelled() {
            return Ok(ExitCode::from(130));
        }
        println!("\n{}", self.out.join("report.md").display());
        let failed = results.failures().count();
        if failed == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("{failed} of the promises did not hold with the mesh");
        Ok(ExitCode::FAILURE)
    }

    fn options(&self) -> Options {
        let mut viewers = self.traffic.options();
        if self.short {
            viewers.segments = viewers.segments.min(2);
            viewers.segment_bytes = viewers.segment_bytes.min(64 * 1024);
        }
        let (hold, settle) = if self.short { (4, 3) } else { (15, 6) };
        Options {
            only: self.only.clone(),
            meshes: match self.mesh {
                None => vec![true, false],
                Some(mesh) => vec![mesh == OnOff::On],
            },
            hold: Duration::from_secs(hold),
            settle: Duration::from_secs(settle),
            viewers,
            out: self.out.clone(),
            proxy_program: self.proxy_bin.clone(),
        }
    }
}
