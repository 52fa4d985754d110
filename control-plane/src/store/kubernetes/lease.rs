//! A leadership by a `coordination.k8s.io/v1` Lease, as Kubernetes' own controllers have it. Whether somebody else's lease
//! has run out is told by our own clock: it has when it was not renewed for as long as it lasts while we were looking.

use super::{Shared, run, server};
use crate::leader::{Holder, Lease};
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// One leadership.
pub struct KubernetesLease {
    shared: Arc<Shared>,
    handle: Option<tokio::runtime::Handle>,
    name: String,
    /// The version of another one's lease, and since when it has been that.
    seen: Arc<Mutex<Option<(String, Instant)>>>,
}

impl KubernetesLease {
    pub(super) fn new(shared: Arc<Shared>, handle: Option<tokio::runtime::Handle>, name: &str) -> Self {
        Self { shared, handle, name: name.to_owned(), seen: Arc::default() }
    }
}

impl Lease for KubernetesLease {
    fn hold(&self, who: &str, life: Duration) -> Result<Holder, String> {
        let (shared, name, who, seen) = (self.shared.clone(), self.name.clone(), who.to_owned(), self.seen.clone());
        run(self.handle.as_ref(), async move { Ok(hold(&shared, &name, &who, life, &seen).await) })
            .map_err(|e| e.to_string())?
    }

    fn release(&self, who: &str) -> Result<(), String> {
        let (shared, name, who) = (self.shared.clone(), self.name.clone(), who.to_owned());
        run(self.handle.as_ref(), async move { Ok(release(&shared, &name, &who).await) }).map_err(|e| e.to_string())?
    }
}

fn leases(shared: &Shared) -> Api<Object> {
    Api::namespaced(shared.client.clone(), &shared.namespace)
}

async fn hold(
    shared: &Shared,
    name: &str,
    who: &str,
    life: Duration,
    seen: &Mutex<Option<(String, Instant)>>,
) -> Result<Holder, String> {
    let api = leases(shared);
    let in_words = |e: kube::Error| server::failed(&e).to_string();
    let found = api.get_opt(name).await.map_err(in_words)?;
    let holder = |lease: &Object| lease.spec.as_ref().and_then(|s| s.holder_identity.clone()).filter(|h| !h.is_empty());
    if let Some(lease) = &found
        && let Some(other) = holder(lease).filter(|holder| holder != who)
        && !has_run_out(lease, seen)
    {
        return Ok(Holder::Other(other));
    }
    let sent = match found {
        None => {
            let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &Object { metadata, spec: Some(spec(who, life, None)) }).await
        }
        Some(mut lease) => {
            lease.spec = Some(spec(who, life, lease.spec.take()));
            api.replace(name, &PostParams::default(), &lease).await
        }
    };
    match sent {
        Ok(_) => Ok(Holder::Us),
        // Somebody was quicker: who, the next time tells.
        Err(error) if matches!(server::code(&error), Some(409)) => Ok(Holder::Other(String::new())),
        Err(error) => Err(in_words(error)),
    }
}

fn spec(who: &str, life: Duration, before: Option<LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let before = before.unwrap_or_default();
    let ours = before.holder_identity.as_deref() == Some(who);
    LeaseSpec {
        holder_identity: Some(who.into()),
        lease_duration_seconds: i32::try_from(life.as_secs().max(1)).ok(),
        acquire_time: before.acquire_time.filter(|_| ours).or(Some(now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
        ..LeaseSpec::default()
    }
}

fn has_run_out(lease: &Object, seen: &Mutex<Option<(String, Instant)>>) -> bool {
    let version = lease.metadata.resource_version.clone().unwrap_or_default();
    let lasts =
        lease.spec.as_ref().and_then(|s| s.lease_duration_seconds).and_then(|s| u64::try_from(s).ok()).unwrap_or(15);
    let mut seen = seen.lock();
    match &*seen {
        Some((known, since)) if *known == version => since.elapsed() >= Duration::from_secs(lasts),
        _ => {
            *seen = Some((version, Instant::now()));
            false
        }
    }
}

async fn release(shared: &Shared, name: &str, who: &str) -> Result<(), String> {
    let api = leases(shared);
    let in_words = |e: kube::Error| server::failed(&e).to_string();
    let Some(mut lease) = api.get_opt(name).await.map_err(in_words)? else { return Ok(()) };
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(who) {
        return Ok(());
    }
    spec.holder_identity = None;
    api.replace(name, &PostParams::default(), &lease).await.map(drop).map_err(in_words)
}
