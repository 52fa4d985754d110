//! How far the sidecars of the other replicas are: each replica writes it into a Lease of its own, and the one that leads
//! reads them all. A sidecar talks to one replica; only together they know of all sidecars.

use crate::{fleet::Fleet, store::Snapshot};
use futures::StreamExt;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, DefaultBackoff, Event},
    },
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// The label of these Leases.
const LABEL: &str = "weir.dev/replica";
/// The annotation: all sidecars of the replica have applied everything up to this version of the documents.
const SETTLED: &str = "weir.dev/settled";
/// A replica says that it lives at least so often.
pub(super) const ALIVE: Duration = Duration::from_secs(10);
/// One that has said nothing for so long is gone, and its sidecars are with others.
const GONE: Duration = Duration::from_secs(30);

/// What the other replicas say.
#[derive(Default)]
pub(super) struct Others(Mutex<HashMap<String, (u64, Instant)>>);

impl Others {
    /// Whether the sidecars of all other replicas have applied a version.
    pub(super) fn have_settled(&self, version: u64, now: Instant) -> bool {
        let mut others = self.0.lock();
        others.retain(|_, (_, heard)| now.saturating_duration_since(*heard) < GONE);
        others.values().all(|(settled, _)| *settled >= version)
    }

    fn hear(&self, lease: &Lease, own: &str, now: Instant) {
        let name = lease.metadata.name.clone().unwrap_or_default();
        if name != own {
            let said = lease.metadata.annotations.as_ref().and_then(|all| all.get(SETTLED));
            let settled = said.and_then(|text| text.parse().ok()).unwrap_or(0);
            self.0.lock().insert(name, (settled, now));
        }
    }

    fn forget(&self, lease: &Lease) {
        self.0.lock().remove(lease.metadata.name.as_deref().unwrap_or_default());
    }
}

/// Follows what the others say, as long as this runs.
pub(super) async fn listen(leases: Api<Lease>, own: String, others: Arc<Others>) {
    let config = watcher::Config::default().labels(LABEL);
    let mut events = std::pin::pin!(watcher::watcher(leases, config).backoff(DefaultBackoff::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(lease) | Event::InitApply(lease)) => others.hear(&lease, &own, Instant::now()),
            Ok(Event::Delete(lease)) => others.forget(&lease),
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => tracing::debug!(%error, "the other replicas are not heard"),
        }
    }
}

/// Up to which version the sidecars of this replica have applied everything.
pub(super) fn settled(snapshot: &Snapshot, fleet: &Fleet) -> u64 {
    let connected = fleet.proxies().into_iter().filter(|proxy| proxy.connected);
    connected.map(|proxy| proxy.applied_version).min().unwrap_or(u64::MAX).min(snapshot.version())
}

/// Says how far this replica is.
pub(super) async fn say(leases: &Api<Lease>, own: &str, settled: u64) -> Result<(), kube::Error> {
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(own.into()),
            labels: Some(BTreeMap::from([(LABEL.into(), "true".into())])),
            annotations: Some(BTreeMap::from([(SETTLED.into(), settled.to_string())])),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(own.into()),
            lease_duration_seconds: i32::try_from(GONE.as_secs()).ok(),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    };
    leases.patch(own, &PatchParams::apply("weir").force(), &Patch::Apply(&lease)).await.map(drop)
}

/// This replica ends: nobody waits for it. What an earlier one has left long ago goes, too.
pub(super) async fn leave(leases: &Api<Lease>, own: &str) {
    let _ = leases.delete(own, &DeleteParams::default()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, settled: u64) -> Lease {
        let annotations = Some(BTreeMap::from([(SETTLED.to_owned(), settled.to_string())]));
        let metadata = ObjectMeta { name: Some(name.into()), annotations, ..ObjectMeta::default() };
        Lease { metadata, ..Lease::default() }
    }

    #[test]
    fn all_that_live_are_waited_for() {
        let (others, now) = (Others::default(), Instant::now());
        assert!(others.have_settled(5, now), "nobody else is there");
        others.hear(&lease("me", 0), "me", now);
        others.hear(&lease("a", 5), "me", now);
        assert!(others.have_settled(5, now) && !others.have_settled(6, now));
        others.hear(&lease("b", 4), "me", now);
        assert!(!others.have_settled(5, now));
        others.forget(&lease("b", 4));
        assert!(others.have_settled(5, now));
        others.hear(&lease("b", 4), "me", now);
        others.hear(&lease("a", 5), "me", now + GONE / 2);
        assert!(others.have_settled(5, now + GONE), "who is silent for long is gone");
    }
}
