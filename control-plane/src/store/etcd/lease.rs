//! The leadership on etcd: a key under a lease that etcd takes away when it is not renewed.

use super::{
    PATIENCE, Shared, run,
    wire::{
        self, Compare, Ignored, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, Op,
        RangeRequest, TxnRequest,
    },
};
use crate::{
    leader::{Holder, Lease},
    store::Error,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Mutex};
use tokio_stream::wrappers::ReceiverStream;

/// One process's hold on the leadership.
pub struct EtcdLease {
    inner: Arc<Inner>,
    handle: Option<Handle>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Our lease at etcd; 0: none.
    lease: Mutex<i64>,
}

impl EtcdLease {
    pub(super) fn new(shared: Arc<Shared>, handle: Option<Handle>) -> Self {
        Self { inner: Arc::new(Inner { shared, lease: Mutex::new(0) }), handle }
    }
}

impl Lease for EtcdLease {
    fn hold(&self, who: &str, life: Duration) -> Result<Holder, String> {
        let (inner, who) = (self.inner.clone(), who.to_owned());
        run(self.handle.as_ref(), async move { inner.hold(who, life).await }).map_err(|e| e.to_string())
    }

    fn release(&self, _: &str) -> Result<(), String> {
        let inner = self.inner.clone();
        run(self.handle.as_ref(), async move { inner.release().await }).map_err(|e| e.to_string())
    }
}

impl Inner {
    async fn hold(&self, who: String, life: Duration) -> Result<Holder, Error> {
        let mut lease = self.lease.lock().await;
        let deadline = Instant::now() + PATIENCE.min(life);
        if *lease != 0 && !self.keep_alive(*lease).await? {
            *lease = 0;
        }
        let shared = &self.shared;
        let key = shared.layout.leader();
        let found = shared.range(RangeRequest { key: key.clone(), ..RangeRequest::default() }, deadline).await?;
        match found.kvs.into_iter().next() {
            Some(kv) if kv.lease == *lease && *lease != 0 => return Ok(Holder::Us),
            Some(kv) => return Ok(Holder::Other(String::from_utf8_lossy(&kv.value).into_owned())),
            None => {}
        }
        if *lease == 0 {
            *lease = self.grant(life, deadline).await?;
        }
        let request = TxnRequest {
            compare: vec![Compare::absent(&key)],
            success: vec![Op::put_leased(key.clone(), who.into_bytes(), *lease)],
            failure: vec![Op::get(key)],
        };
        let answer = shared.transact(request, deadline).await?;
        if answer.succeeded {
            return Ok(Holder::Us);
        }
        let found = answer.responses.into_iter().next().and_then(|r| r.range);
        match found.and_then(|r| r.kvs.into_iter().next()) {
            // A try whose answer was lost had taken it.
            Some(kv) if kv.lease == *lease => Ok(Holder::Us),
            Some(kv) => Ok(Holder::Other(String::from_utf8_lossy(&kv.value).into_owned())),
            None => Ok(Holder::Other(String::new())),
        }
    }

    async fn grant(&self, life: Duration, deadline: Instant) -> Result<i64, Error> {
        let ttl = i64::try_from(life.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = LeaseGrantRequest { ttl };
        let granted: LeaseGrantResponse = self
            .shared
            .again(wire::LEASE_GRANT, request, deadline)
            .await
            .map_err(|status| self.shared.refused(&status))?;
        Ok(granted.id)
    }

    /// Whether the lease is still there, with its time begun anew.
    async fn keep_alive(&self, id: i64) -> Result<bool, Error> {
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        let _ = sender.send(LeaseId { id }).await;
        let client = &self.shared.client;
        let failed = |status: tonic::Status| self.shared.refused(&status);
        let mut answers =
            client.stream::<_, LeaseKeepAliveResponse>(wire::LEASE_KEEP_ALIVE, ReceiverStream::new(requests)).await;
        let answer = match &mut answers {
            Ok(answers) => tokio::time::timeout(super::client::CALL, answers.message()).await,
            Err(status) => return Err(failed(status.clone())),
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer.is_some_and(|a| a.ttl > 0)),
            Ok(Err(status)) => Err(failed(status)),
            Err(_) => {
                client.leave();
                Err(self.shared.error("the lease was not renewed in time", "see etcd's log"))
            }
        }
    }

    async fn release(&self) -> Result<(), Error> {
        let mut lease = self.lease.lock().await;
        if *lease == 0 {
            return Ok(());
        }
        let request = LeaseId { id: std::mem::take(&mut *lease) };
        let revoked: Result<Ignored, _> =
            self.shared.again(wire::LEASE_REVOKE, request, Instant::now() + super::client::CALL).await;
        revoked.map(drop).map_err(|status| self.shared.refused(&status))
    }
}
