//! The failures, one after the other, with the mesh and without, under the same viewers: who was hurt, and how much.

mod catalogue;
mod judge;
mod machine;
mod report;

pub use catalogue::{Action, Scenario, all};
pub use judge::Outcome;

use crate::{
    services::Flood,
    stage::{self, Stage},
    stats::{Window, unix_seconds},
    viewers::{self, Report},
};
use machine::Ticks;
use serde::Serialize;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The share of the machine that other programs may take before a broken promise is doubted, and how often it is.
const BUSY: f64 = 0.2;
const TRIES: u32 = 3;

/// How a run of scenarios is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which scenarios: those with one of these words in their names; none: all.
    pub only: Vec<String>,
    /// With the mesh, without, or both.
    pub meshes: Vec<bool>,
    /// How long each failure lasts.
    pub hold: Duration,
    /// How long there is nothing wrong afterwards. What is felt then counts too.
    pub settle: Duration,
    /// The traffic.
    pub viewers: viewers::Options,
    /// Where the report and the processes' logs go.
    pub out: PathBuf,
    /// The sidecar's program.
    pub proxy_program: Option<PathBuf>,
}

/// All that is in the JSON report.
#[derive(Debug, Serialize)]
pub struct Results {
    /// When it began (seconds since the epoch).
    pub began: u64,
    /// Cores of the machine.
    pub cores: usize,
    /// Its processor, as it calls itself.
    pub processor: String,
    /// Seconds that each failure lasted.
    pub hold_s: f64,
    /// Seconds afterwards that count too.
    pub settle_s: f64,
    /// Viewers a second.
    pub rate: f64,
    /// Of the viewers.
    pub seed: u64,
    /// What came of each, in the order of the run.
    pub outcomes: Vec<Outcome>,
}

impl Results {
    /// What failed with the mesh: the run's verdict.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| o.mesh && !o.broken.is_empty())
    }
}

/// Runs them and writes `report.md` and `report.json`. What was found until then is written also when told to stop.
pub async fn run(options: &Options, stop: &CancellationToken) -> Result<Results, stage::Error> {
    let wanted = |s: &Scenario| options.only.is_empty() || options.only.iter().any(|w| s.name.contains(w.as_str()));
    let scenarios: Vec<Scenario> = all().into_iter().filter(wanted).collect();
    let mut results = Results {
        began: unix_seconds(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        processor: processor(),
        hold_s: options.hold.as_secs_f64(),
        settle_s: options.settle.as_secs_f64(),
        rate: options.viewers.rate,
        seed: options.viewers.seed,
        outcomes: Vec::new(),
    };
    for mesh in &options.meshes {
        let stage = Stage::start(stage::Options {
            mesh: *mesh,
            viewers: options.viewers.clone(),
            logs: Some(options.out.join(if *mesh { "logs-mesh" } else { "logs-plain" })),
            proxy_program: options.proxy_program.clone(),
        })
        .await?;
        let played = tokio::select! {
            played = play_all(&stage, &scenarios, options, &mut results) => played,
            () = stop.cancelled() => Ok(()),
        };
        stage.stop().await;
        report::write(&results, &options.out)?;
        played?;
        if stop.is_cancelled() {
            break;
        }
    }
    Ok(results)
}

async fn play_all(
    stage: &Stage,
    scenarios: &[Scenario],
    options: &Options,
    results: &mut Results,
) -> Result<(), stage::Error> {
    // The first viewers find cold connections; nobody is judged by them.
    tokio::time::sleep(options.settle.max(Duration::from_secs(3))).await;
    for scenario in scenarios {
        let outcome = play_fairly(stage, scenario, options).await?;
        println!("{}", report::line(&outcome));
        results.outcomes.push(outcome);
    }
    Ok(())
}

/// A promise that is broken while other programs take much of the machine is tried again, and the last try counts.
async fn play_fairly(stage: &Stage, scenario: &Scenario, options: &Options) -> Result<Outcome, stage::Error> {
    let mut tries = 0;
    loop {
        let before = Ticks::now();
        let mut outcome = play(stage, scenario, options).await?;
        outcome.others = Ticks::now().others_since(before);
        tries += 1;
        outcome.tries = tries;
        if outcome.broken.is_empty() || !stage.mesh() || outcome.others < BUSY || tries == TRIES {
            return Ok(outcome);
        }
        println!(
            "     again, since other programs took {:.0} % of the machine: {}",
            outcome.others * 100.0,
            report::line(&outcome)
        );
    }
}

async fn play(stage: &Stage, scenario: &Scenario, options: &Options) -> Result<Outcome, stage::Error> {
    let from = unix_seconds();
    let charged_before = stage.ledger().await.unwrap_or_default();
    let done = act(stage, scenario, options.hold).await;
    // Whatever happened, the stage is whole again afterwards.
    let healed = heal(stage).await;
    tokio::time::sleep(options.settle).await;
    let to = unix_seconds();
    // Those who still wait for an answer wait at most so long; their numbers belong to this stretch.
    tokio::time::sleep(Duration::from_secs(1)).await;
    done?;
    healed?;
    let felt = Report::new(&stage.felt(from, to).await?);
    let charged = stage.ledger().await?;
    let killed = scenario.action == Action::Kill && scenario.service == "billing";
    let reached: Option<Window> = if killed { None } else { stage.served("billing-1", from, to + 1).await.ok() };
    let asked = stage.calls(from, to + 1).await;
    let billing = judge::Billing::new(&charged_before, &charged, reached.as_ref(), &asked);
    Ok(Outcome::new(scenario, stage.mesh(), felt, billing))
}

async fn act(stage: &Stage, scenario: &Scenario, hold: Duration) -> Result<(), stage::Error> {
    let names = scenario.targets(stage.instances());
    match scenario.action {
        Action::Nothing => tokio::time::sleep(hold).await,
        Action::Kill => {
            for name in &names {
                stage.kill(name).await?;
            }
            tokio::time::sleep(hold).await;
        }
        Action::Lose => {
            for name in &names {
                stage.lose(name).await?;
            }
            tokio::time::sleep(hold).await;
        }
        Action::Fault(fault) => {
            for name in &names {
                stage.fault(name, fault).await?;
            }
            tokio::time::sleep(hold).await;
        }
        Action::Bursts(fault) => bursts(stage, &names, fault, hold).await?,
        Action::Flood { per_second } => {
            let seconds = u32::try_from(hold.as_secs()).unwrap_or(60).max(1);
            stage.flood(Flood { per_second, seconds }).await?;
            tokio::time::sleep(hold).await;
        }
    }
    Ok(())
}

/// A second of failure, a second without, as long as it lasts.
async fn bursts(
    stage: &Stage,
    names: &[String],
    fault: crate::fault::Fault,
    hold: Duration,
) -> Result<(), stage::Error> {
    let end = tokio::time::Instant::now() + hold;
    let mut bad = true;
    while tokio::time::Instant::now() < end {
        for name in names {
            stage.fault(name, if bad { fault } else { crate::fault::Fault::default() }).await?;
        }
        bad = !bad;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Every instance runs and does its work.
async fn heal(stage: &Stage) -> Result<(), stage::Error> {
    for instance in stage.instances() {
        stage.revive(&instance.name).await?;
        stage.fault(&instance.name, crate::fault::Fault::default()).await?;
    }
    Ok(())
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':'));
    model.map_or_else(|| "unknown".into(), |(_, name)| name.trim().to_owned())
}

/// Makes the folder of a report.
pub fn prepare(out: &Path) -> io::Result<()> {
    std::fs::create_dir_all(out)
}
