//! Drives the exchange of roots: each replica reports what its proxies hold, and the one that leads goes on to the next
//! phase when all of them allow it. Everything that must survive is in the store, so any replica can go on after any
//! other.

use super::adapters::StoreVault;
use crate::{
    ca::{
        self, Ca, Refusal,
        kept::Kept,
        rotation::{Facts, Phase},
    },
    fleet::{Fleet, Trusting},
    leader::Standing,
    store::{MetaExpect, Store},
};
use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Where replicas report.
const REPORTS: &str = "replica/";
/// How often the store is looked at while nothing is under way, and while something is.
const IDLE: Duration = Duration::from_secs(3);
const BUSY: Duration = Duration::from_millis(500);
/// A report is renewed so often while nothing is under way.
const PRESENCE: Duration = Duration::from_secs(60);
/// A replica whose report stays the same for so long during a rotation is dead, or cut off from the store. Nobody can tell
/// which; it is not waited for any more as soon as its proxies are with others.
const GONE: Duration = Duration::from_secs(15);
/// Its report is swept away after.
const SWEPT: Duration = Duration::from_secs(300);

/// What a replica says of its proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Different each time, so that one can see that it lives.
    sequence: u64,
    /// The state of the roots that it acts on.
    acts_on: String,
    connected: usize,
    unaware: usize,
    stale: usize,
    names: Vec<String>,
}

/// How it stands, over all replicas, as this one knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Overview {
    pub(super) facts: Facts,
    pub(super) connected: usize,
    pub(super) names: Vec<String>,
    pub(super) replicas: usize,
}

/// The roots of this replica and their exchange.
pub(super) struct Rotations {
    pub(super) store: Arc<dyn Store>,
    pub(super) ca: Arc<Ca>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) leader: watch::Receiver<Standing>,
    /// This replica.
    pub(super) who: String,
    /// All must allow the next phase for so long.
    pub(super) settle: Duration,
    wake: Notify,
    state: Mutex<State>,
    phases: IntGaugeVec,
    waiting: IntGaugeVec,
}

#[derive(Default)]
struct State {
    sequence: u64,
    reported: Option<Instant>,
    /// The roster that was written last, and when.
    roster: Option<(String, Instant)>,
    /// Others' reports, and since when each has been what it is, as seen in this rotation: before it, they are silent.
    others: BTreeMap<String, (Report, Instant)>,
    /// The same while nothing is under way, to sweep away what nobody renews.
    silent: BTreeMap<String, (Report, Instant)>,
    /// Since when all allow the next phase, and of which state.
    allowed: Option<(Instant, String)>,
    overview: Overview,
    /// What was wrong with the files last.
    complaint: String,
}

impl Rotations {
    pub(super) fn new(
        store: Arc<dyn Store>,
        ca: Arc<Ca>,
        fleet: Arc<Fleet>,
        leader: watch::Receiver<Standing>,
        who: String,
        settle: Duration,
        registry: &Registry,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let gauge = |name: &str, help: &str, label: &str| {
            let gauge = IntGaugeVec::new(Opts::new(format!("weir_cp_{name}"), help), &[label])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let phases = gauge("rotation_phase", "1 for the phase in which the rotation of roots is", "phase")?;
        let waiting = gauge("rotation_waiting", "Whom the rotation of roots waits for", "what")?;
        let (wake, state) = (Notify::new(), Mutex::default());
        Ok(Arc::new(Self { store, ca, fleet, leader, who, settle, wake, state, phases, waiting }))
    }

    /// Follows until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let this = self.clone();
            let busy = tokio::task::spawn_blocking(move || this.step(Instant::now(), SystemTime::now())).await;
            let wait = if busy.unwrap_or(false) { BUSY } else { IDLE };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
                () = stop.cancelled() => break,
            }
        }
        let gone = tokio::task::spawn_blocking(move || self.forget(&self.who)).await;
        if let Ok(Err(error)) = gone {
            tracing::debug!(%error, "this replica's report stays for a while");
        }
    }

    /// One look at the store, one report, and, for the one that leads, perhaps the next phase. Whether a rotation is
    /// under way.
    fn step(&self, now: Instant, time: SystemTime) -> bool {
        let vault = StoreVault(self.store.clone());
        match self.ca.reload(time) {
            Ok(true) => tracing::info!("the issuing certificate was read again"),
            Ok(false) => self.state.lock().complaint.clear(),
            Err(error) => {
                let (mut state, complaint) = (self.state.lock(), error.to_string());
                // Once, and not every few seconds.
                if state.complaint != complaint {
                    tracing::warn!(%error, "the issuing certificate stays as it was");
                    state.complaint = complaint;
                }
            }
        }
        if let Err(error) = self.ca.refresh(&vault) {
            tracing::warn!(%error, "the roots stay as they were");
            return true;
        }
        let rotation = self.ca.kept().ok().and_then(|kept| kept.rotation);
        let acts_on = self.ca.acts_on();
        let ours = self.fleet.trusting(&ca::roots_id(&self.ca.roots().borrow()), &self.ca.issuer());
        let busy = rotation.is_some();
        let reported = self.report(&ours, &acts_on, busy, now);
        if busy || reported {
            self.enroll(now);
        }
        let overview = if busy { self.look(&ours, &acts_on, now) } else { Overview::default() };
        if !busy {
            self.state.lock().others.clear();
            if reported && self.leader.borrow().leads(now) {
                self.sweep(now);
            }
        }
        for phase in Phase::ALL {
            let here = rotation.as_ref().is_some_and(|r| r.phase == phase);
            self.phases.with_label_values(&[phase.as_str()]).set(i64::from(here));
        }
        let facts = overview.facts;
        for (what, count) in [("unaware", facts.unaware), ("stale", facts.stale), ("behind", facts.behind)] {
            self.waiting.with_label_values(&[what]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.state.lock().overview = overview;
        if let Some(rotation) = rotation.filter(|r| !r.hold && self.leader.borrow().leads(now)) {
            self.advance(facts.allow(rotation.phase), rotation.phase, &acts_on, now, time);
        }
        busy
    }

    /// Goes on when it has been allowed for long enough.
    fn advance(&self, allowed: bool, phase: Phase, acts_on: &str, now: Instant, time: SystemTime) {
        let since = {
            let mut state = self.state.lock();
            if !allowed {
                state.allowed = None;
                return;
            }
            match &state.allowed {
                Some((since, of)) if of == acts_on => *since,
                _ => {
                    state.allowed = Some((now, acts_on.to_owned()));
                    now
                }
            }
        };
        if now.saturating_duration_since(since) < self.settle {
            return;
        }
        match self.go(Some(phase), time) {
            Ok(_) => {}
            Err(Refusal::No(why)) => tracing::info!(why, "the rotation of roots was changed by someone else"),
            Err(Refusal::Failed(error)) => tracing::warn!(%error, "the rotation of roots does not go on"),
        }
    }

    /// The next phase, whatever the proxies say, if it is in this one (or whichever it is).
    pub(super) fn go(&self, from: Option<Phase>, time: SystemTime) -> Result<Kept, Refusal> {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let kept = self.change(|kept| {
            let phase = kept.rotation.as_ref().map(|r| r.phase).ok_or("no rotation is under way")?;
            if from.is_some_and(|from| from != phase) {
                return Err(format!("it is {} now", phase.as_str()));
            }
            kept.advance(seconds).ok_or_else(|| "no rotation is under way".into())
        })?;
        let phase = kept.rotation.as_ref().map_or("over", |r| r.phase.as_str());
        tracing::info!(phase, issuer = self.ca.issuer(), "the rotation of roots goes on");
        Ok(kept)
    }

    /// Changes what is kept of the roots.
    pub(super) fn change(&self, how: impl Fn(&Kept) -> Result<Kept, String>) -> Result<Kept, Refusal> {
        let kept = self.ca.change(&StoreVault(self.store.clone()), how);
        self.wake.notify_one();
        kept
    }

    /// Begins.
    pub(super) fn start(&self, hold: bool, time: SystemTime) -> Result<Kept, Refusal> {
        let kept = self.ca.rotate(&StoreVault(self.store.clone()), hold, time);
        self.wake.notify_one();
        kept
    }

    /// How it stands.
    pub(super) fn overview(&self) -> Overview {
        self.state.lock().overview.clone()
    }

    /// Whether it was time to.
    fn report(&self, ours: &Trusting, acts_on: &str, busy: bool, now: Instant) -> bool {
        let report = {
            let mut state = self.state.lock();
            if !busy && state.reported.is_some_and(|at| now.saturating_duration_since(at) < PRESENCE) {
                return false;
            }
            state.reported = Some(now);
            state.sequence += 1;
            Report {
                sequence: state.sequence,
                acts_on: acts_on.to_owned(),
                connected: ours.connected,
                unaware: ours.unaware,
                stale: ours.stale,
                names: ours.names.clone(),
            }
        };
        // Text and numbers: this cannot fail.
        let bytes = serde_json::to_vec(&report).unwrap_or_default();
        let name = format!("{REPORTS}{}", self.who);
        if let Err(error) = self.store.set_meta(&name, MetaExpect::Any, Some(&bytes)) {
            tracing::warn!(%error, "this replica cannot report what its proxies hold");
        }
        true
    }

    /// Takes away the reports of replicas that died without a word.
    fn sweep(&self, now: Instant) {
        let Ok(found) = self.read() else { return };
        let mut state = self.state.lock();
        note(&mut state.silent, found, now);
        let dead = state.silent.iter().filter(|(_, (_, since))| now.saturating_duration_since(*since) >= SWEPT);
        let dead: Vec<_> = dead.map(|(name, _)| name.clone()).collect();
        let live: Vec<_> = state.silent.keys().filter(|name| !dead.contains(name)).cloned().collect();
        drop(state);
        for name in dead {
            // Whose proxies are nowhere else may be cut off, and the next rotation has to know of it.
            if self.missing(&name, &live).is_ok_and(|missing| missing.is_empty())
                && let Err(error) = self.forget(&name)
            {
                tracing::debug!(%error, name, "a dead replica's report stays for a while");
            }
        }
    }

    /// Nobody waits for this replica any more.
    fn forget(&self, name: &str) -> Result<(), crate::store::Error> {
        self.store.set_meta(&roster::of(name), MetaExpect::Any, None)?;
        self.store.set_meta(&format!("{REPORTS}{name}"), MetaExpect::Any, None)
    }

    /// What all replicas report together.
    fn look(&self, ours: &Trusting, acts_on: &str, now: Instant) -> Overview {
        let found = match self.read() {
            Ok(found) => found,
            Err(why) => return unknown(&why),
        };
        let mut state = self.state.lock();
        note(&mut state.others, found, now);
        let others = state.others.clone();
        drop(state);
        let mut all = Overview {
            facts: Facts { unaware: ours.unaware, stale: ours.stale, behind: 0 },
            connected: ours.connected,
            names: ours.names.clone(),
            replicas: 1,
        };
        let (silent, live): (Vec<_>, Vec<_>) =
            others.iter().partition(|(_, (_, since))| now.saturating_duration_since(*since) >= GONE);
        for (_, (report, _)) in &live {
            all.replicas += 1;
            all.connected += report.connected;
            if report.acts_on != *acts_on {
                all.facts.behind += 1;
                continue;
            }
            all.facts.unaware += report.unaware;
            all.facts.stale += report.stale;
            all.names.extend(report.names.iter().cloned());
        }
        let live: Vec<_> = live.into_iter().map(|(name, _)| name.clone()).collect();
        for (name, _) in silent {
            match self.missing(name, &live) {
                // It is dead, or nobody listens to it.
                Ok(missing) if missing.is_empty() => {}
                Ok(missing) => {
                    all.facts.behind += 1;
                    all.connected += missing.len();
                    all.names.extend(missing);
                }
                Err(why) => return unknown(&why),
            }
        }
        all.names.truncate(20);
        all
    }

    fn read(&self) -> Result<BTreeMap<String, Report>, String> {
        let mut found = BTreeMap::new();
        for name in self.store.meta_names(REPORTS).map_err(|e| e.to_string())? {
            let Some(who) = name.strip_prefix(REPORTS).filter(|who| **who != self.who) else { continue };
            let Some(bytes) = self.store.meta(&name).map_err(|e| e.to_string())? else { continue };
            // What a later version writes says at least that there is somebody.
            found.insert(who.to_owned(), serde_json::from_slice(&bytes).unwrap_or_default());
        }
        Ok(found)
    }
}

/// Nothing is allowed by what is not known.
fn unknown(why: &str) -> Overview {
    tracing::warn!(why, "other replicas' reports cannot be read");
    Overview { facts: Facts { behind: 1, ..Facts::default() }, ..Overview::default() }
}

/// Takes in what was found; what is as before keeps its time.
fn note(known: &mut BTreeMap<String, (Report, Instant)>, found: BTreeMap<String, Report>, now: Instant) {
    known.retain(|name, _| found.contains_key(name));
    for (name, report) in found {
        if known.get(&name).is_none_or(|(before, _)| *before != report) {
            known.insert(name, (report, now));
        }
    }
}

mod roster;
#[cfg(test)]
mod tests;
