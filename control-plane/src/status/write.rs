//! Conditions into the cluster, as long as this replica leads.

use super::{
    decide::{Condition, Conditions, Progress, decide, told_of},
    replicas::{self, Others},
};
use crate::{
    fleet::Fleet,
    kubernetes::object,
    leader::Standing,
    store::{Refused, Snapshot},
};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_config::resources::{Key, Kind};

/// What comes together is written together.
const TOGETHER: Duration = Duration::from_millis(100);
/// To see what is to be written takes at most one part in so many of a core's time, so that a large mesh in which instances
/// come and go all the time is not kept busy by it; but nobody is told later than by so much.
const SHARE: u32 = 10;
const LATEST: Duration = Duration::from_secs(2);
/// What could not be written is tried again after so long; an expired leadership is noticed.
const AGAIN: Duration = Duration::from_secs(5);
/// Writes at the same time.
const AT_ONCE: usize = 8;
/// In the status of a route there is a part for each controller.
const CONTROLLER: &str = "weir.dev/control-plane";

/// Writes statuses.
pub struct Writer {
    /// The way to the API server.
    pub client: Client,
    /// The documents.
    pub documents: watch::Receiver<Arc<Snapshot>>,
    /// The objects that are none.
    pub refused: watch::Receiver<Arc<BTreeMap<Key, Refused>>>,
    /// What the sidecars say.
    pub fleet: Arc<Fleet>,
    /// Whether this replica leads.
    pub standing: watch::Receiver<Standing>,
    /// What this replica is called.
    pub who: String,
    /// The namespace with the replicas' Leases.
    pub namespace: String,
}

impl Writer {
    /// Writes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut news = self.fleet.watch();
        let (leases, own) =
            (Api::namespaced(self.client.clone(), &self.namespace), format!("weir-replica-{}", self.who));
        let others = Arc::new(Others::default());
        let listening = tokio::spawn(replicas::listen(leases.clone(), own.clone(), others.clone()));
        let mut said: Option<(u64, Instant)> = None;
        let mut written: BTreeMap<Key, Conditions> = BTreeMap::new();
        // With which version of all documents each came to be what it is.
        let mut since: HashMap<Arc<Key>, u64> = HashMap::new();
        let mut seen: HashMap<Arc<Key>, u64> = HashMap::new();
        loop {
            let snapshot = self.documents.borrow_and_update().clone();
            let refused = self.refused.borrow_and_update().clone();
            news.borrow_and_update();
            let begun = Instant::now();
            note(&snapshot, &mut seen, &mut since);
            let mut took = begun.elapsed();
            let settled = replicas::settled(&snapshot, &self.fleet);
            let due = said.is_none_or(|(before, at)| before != settled || at.elapsed() >= replicas::ALIVE / 2);
            if due && replicas::say(&leases, &own, settled).await.is_ok() {
                said = Some((settled, Instant::now()));
            }
            let mut left = false;
            if self.standing.borrow_and_update().leads(Instant::now()) {
                let progress = |version, own| self.progress(version, own, &others);
                let begun = Instant::now();
                let wanted = decide(&snapshot, &refused, &since, progress);
                took += begun.elapsed();
                written.retain(|key, _| wanted.contains_key(key));
                left = self.write(wanted, &mut written).await;
            } else {
                // Somebody else writes now.
                written.clear();
            }
            let again = if left { AGAIN / 5 } else { AGAIN };
            tokio::select! {
                Ok(()) = self.documents.changed() => {}
                Ok(()) = self.refused.changed() => {}
                Ok(()) = news.changed() => {}
                Ok(()) = self.standing.changed() => {}
                () = tokio::time::sleep(again) => {}
                () = stop.cancelled() => break,
            }
            tokio::time::sleep(pause(took)).await;
        }
        listening.abort();
        replicas::leave(&leases, &own).await;
    }

    /// How far the sidecars are, those of the other replicas included. Replicas may count their versions differently by a
    /// little; a document has the same one everywhere.
    fn progress(&self, version: u64, document: u64, others: &Others) -> Option<Progress> {
        let mut progress = Progress::from(&self.fleet.change(version)?);
        progress.complete &= others.have_settled(document, Instant::now());
        Some(progress)
    }

    /// Writes what is not written yet; whether something is left.
    async fn write(&self, wanted: BTreeMap<Key, Conditions>, written: &mut BTreeMap<Key, Conditions>) -> bool {
        let new: Vec<_> = wanted.into_iter().filter(|(key, wanted)| written.get(key) != Some(wanted)).collect();
        let mut left = false;
        for some in new.chunks(AT_ONCE) {
            let mut writes = Vec::with_capacity(some.len());
            for (key, wanted) in some {
                writes.push(self.one(key, wanted));
            }
            for ((key, wanted), done) in some.iter().zip(join_all(writes).await) {
                match done {
                    Ok(()) => drop(written.insert(key.clone(), wanted.clone())),
                    Err(error) => {
                        left = true;
                        tracing::warn!(%key, %error, "a status could not be written yet");
                    }
                }
            }
        }
        left
    }

    async fn one(&self, key: &Key, wanted: &Conditions) -> Result<(), kube::Error> {
        let resource = object::resource(key.kind);
        let api: Api<DynamicObject> = if key.namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
        };
        let Some(live) = api.get_opt(&key.name).await? else { return Ok(()) };
        // What is said here is of an object that there is no more: the next one is on its way.
        if live.metadata.uid.as_deref() != Some(&*wanted.uid) {
            return Ok(());
        }
        let old = live.data.get("status").cloned().unwrap_or_default();
        let status = match key.kind {
            Kind::HttpRoute | Kind::GrpcRoute => of_route(&live, &old, wanted),
            _ => json!({ "conditions": conditions(wanted, &old["conditions"]) }),
        };
        if status == old {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": live.metadata.resource_version },
            "status": status,
        });
        api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }
}

/// How long to wait after so much work.
fn pause(took: Duration) -> Duration {
    (took * (SHARE - 1)).clamp(TOGETHER, LATEST)
}

/// Notes with which version documents came to be what they are.
fn note(snapshot: &Snapshot, seen: &mut HashMap<Arc<Key>, u64>, since: &mut HashMap<Arc<Key>, u64>) {
    for (key, stored) in told_of(snapshot) {
        if seen.insert(key.clone(), stored.resource_version) != Some(stored.resource_version) {
            since.insert(key.clone(), snapshot.version());
        }
    }
    if seen.len() > told_of(snapshot).count() {
        seen.retain(|key, _| snapshot.find(key).is_some());
        since.retain(|key, _| snapshot.find(key).is_some());
    }
}

/// The conditions as Kubernetes writes them; one that is as it was keeps its time.
fn conditions(wanted: &Conditions, old: &Value) -> Vec<Value> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let one = |condition: &Condition| {
        let status = match condition.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let before = old.as_array().into_iter().flatten().find(|c| c["type"] == condition.kind);
        let since = before.filter(|c| c["status"] == status).and_then(|c| c["lastTransitionTime"].as_str());
        json!({
            "type": condition.kind,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": wanted.generation,
            "lastTransitionTime": since.unwrap_or(&now),
        })
    };
    wanted.all.iter().map(one).collect()
}

/// The status of a route: for each of its parents that is ours, beside what other controllers say of theirs.
fn of_route(route: &DynamicObject, old: &Value, wanted: &Conditions) -> Value {
    let theirs = old["parents"].as_array().into_iter().flatten();
    let (ours, mut all): (Vec<_>, Vec<_>) = theirs.cloned().partition(|parent| parent["controllerName"] == CONTROLLER);
    let parents = route.data.pointer("/spec/parentRefs").and_then(Value::as_array).into_iter().flatten();
    for reference in parents.filter(|parent| object::is_service(parent)) {
        let before = ours.iter().find(|parent| parent["parentRef"] == *reference);
        let before = before.map_or(&Value::Null, |parent| &parent["conditions"]);
        all.push(json!({
            "parentRef": reference,
            "controllerName": CONTROLLER,
            "conditions": conditions(wanted, before),
        }));
    }
    json!({ "parents": all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_done_less_often() {
        let after = |ms| pause(Duration::from_millis(ms)).as_millis();
        assert_eq!([after(0), after(5), after(50), after(5_000)], [100, 100, 450, 2_000]);
    }
}
