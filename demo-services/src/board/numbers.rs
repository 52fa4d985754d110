//! What the page shows: golden numbers as the callers of each service saw them in the last ten seconds, and what viewers
//! felt.

use super::inject::{Harm, Injections};
use crate::{
    platform::SERVICES,
    stage::Stage,
    stats::{Series, unix_seconds},
    viewers::Report,
};
use serde::Serialize;
use std::collections::VecDeque;

/// The stretch of time that numbers are about. The last second is left out: it is not over.
const SECONDS: u64 = 10;
/// Points of the curves.
const POINTS: usize = 120;

/// All numbers, at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Numbers {
    /// Whether there are sidecars.
    pub mesh: bool,
    /// Where the control plane's API is.
    pub api: Option<String>,
    /// When (seconds since the epoch).
    pub at: u64,
    /// What viewers felt.
    pub felt: Report,
    /// Visits to the home page, a second.
    pub home_rate: f64,
    /// Services, the ones nearest to the viewers first.
    pub services: Vec<Row>,
    /// The curves, oldest first: playback success in percent, and the home page's p99 in milliseconds.
    pub curves: VecDeque<(f64, f64)>,
}

/// One service.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// For people.
    pub what: &'static str,
    /// Calls a second.
    pub rate: f64,
    /// The share that was answered as asked, in percent.
    pub success: f64,
    /// Half of the calls took at most this, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 did.
    pub p99_ms: f64,
    /// Its instances.
    pub instances: Vec<Replica>,
}

/// One instance.
#[derive(Debug, Clone, Serialize)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Whether its application runs.
    pub alive: bool,
    /// What is being done to it.
    pub harm: Option<Harm>,
}

/// The numbers now, with the curves continued.
pub(super) async fn take(stage: &Stage, injections: &Injections, before: &Numbers) -> Numbers {
    let to = unix_seconds();
    let from = to.saturating_sub(SECONDS);
    let felt = Report::new(&stage.felt(from, to).await.unwrap_or_default());
    let calls = stage.calls(from, to).await;
    let row = |service: &crate::platform::Service| {
        let series: Series = calls.of(&format!("call:{}", service.name));
        let replica = |name: String| Replica { alive: stage.is_alive(&name), harm: injections.of(&name), name };
        Row {
            name: service.name,
            what: service.what,
            rate: series.total() as f64 / SECONDS as f64,
            success: series.success() * 100.0,
            p50_ms: series.latency.quantile(0.5).as_secs_f64() * 1e3,
            p99_ms: series.latency.quantile(0.99).as_secs_f64() * 1e3,
            instances: service.instances().map(replica).collect(),
        }
    };
    let mut curves = before.curves.clone();
    curves.push_back((felt.playback_success * 100.0, felt.of("home").p99_ms));
    while curves.len() > POINTS {
        curves.pop_front();
    }
    Numbers {
        mesh: stage.mesh(),
        api: stage.mesh().then(|| stage.api_address().to_string()),
        at: to,
        home_rate: felt.of("home").requests as f64 / SECONDS as f64,
        services: SERVICES.iter().map(row).collect(),
        felt,
        curves,
    }
}
