//! Small adapters between rooms that do not know each other: the store as the certificate authority's vault, the fleet
//! and the authority as the REST API asks for them.

use super::{history::History, rotation::Rotations};
use crate::{
    api::{
        self,
        problem::{ApiError, Result},
        types,
    },
    ca::{
        Ca, Refusal, Vault,
        token::{self, Grant, Tokens},
    },
    fleet::{ChangeStatus, Fleet, ProxyStatus},
    index::World,
    store::{self, MetaExpect, Store},
};
use http::StatusCode;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;
use weir_config::model::SpiffeId;

/// The key-value space of the store.
pub(super) struct StoreVault(pub(super) Arc<dyn Store>);

impl Vault for StoreVault {
    fn read(&self, name: &str) -> std::result::Result<Option<Vec<u8>>, String> {
        self.0.meta(name).map_err(|e| e.to_string())
    }

    fn keep(&self, name: &str, value: &[u8]) -> std::result::Result<Vec<u8>, String> {
        match self.0.set_meta(name, MetaExpect::Absent, Some(value)) {
            Ok(()) => Ok(value.to_vec()),
            Err(store::Error::MetaConflict { .. }) => {
                self.read(name)?.ok_or_else(|| format!("`{name}` was there, and is not any more"))
            }
            Err(e) => Err(e.to_string()),
        }
    }

    fn replace(&self, name: &str, old: &[u8], new: &[u8]) -> std::result::Result<bool, String> {
        match self.0.set_meta(name, MetaExpect::Value(old), Some(new)) {
            Ok(()) => Ok(true),
            Err(store::Error::MetaConflict { .. }) => Ok(false),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// The fleet, with what each change was about.
pub(super) struct FleetPort {
    pub(super) fleet: Arc<Fleet>,
    pub(super) history: Arc<History>,
}

impl api::Fleet for FleetPort {
    fn proxies(&self) -> Vec<types::Proxy> {
        self.fleet.proxies().iter().map(proxy).collect()
    }

    fn changes(&self) -> Vec<types::Change> {
        // Version 0 is the empty store that a stream looked at: nobody's change.
        self.fleet.changes().into_iter().filter(|c| c.version > 0).map(|c| self.named(c)).collect()
    }

    fn change(&self, version: u64) -> Option<types::Change> {
        self.fleet.change(version).map(|c| self.named(c))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.fleet.watch()
    }
}

impl FleetPort {
    fn named(&self, change: ChangeStatus) -> types::Change {
        types::Change {
            version: change.version,
            at: rfc3339(change.at),
            summary: self.history.summary(change.version),
            proxies: change.concerned as u64,
            applied: change.applied as u64,
            refused: change.refused as u64,
            p50_ms: change.p50.map(milliseconds),
            p99_ms: change.p99.map(milliseconds),
            complete: change.complete,
        }
    }
}

fn proxy(status: &ProxyStatus) -> types::Proxy {
    let refused = status.refused().map(|(kind, name, why)| types::Refusal {
        kind: kind.as_str().into(),
        name: name.to_string(),
        reason: why.to_string(),
    });
    types::Proxy {
        node: status.who.node.clone(),
        identity: status.who.identity.clone(),
        version: [&*status.who.agent, &*status.who.version].join(" ").trim().into(),
        connected: status.connected,
        since: rfc3339(status.since),
        subscribed: status.subscribed() as u64,
        applied_version: status.applied_version,
        refused: refused.collect(),
    }
}

/// The certificate authority.
pub(super) struct IdentityPort {
    pub(super) tokens: Arc<Tokens>,
    pub(super) ca: Arc<Ca>,
    pub(super) world: watch::Receiver<Arc<World>>,
    pub(super) rotations: Arc<Rotations>,
}

impl api::Identity for IdentityPort {
    fn token(&self, request: &types::TokenRequest) -> Result<types::Token> {
        let world = self.world.borrow().clone();
        let identity = SpiffeId::workload(&world.mesh().trust_domain, &request.namespace, &request.service_account)
            .map_err(|e| ApiError::bad_request(format!("namespace and service account make no identity: {e}")))?;
        let lifetime = request.ttl_seconds.map_or(token::DEFAULT_LIFETIME, Duration::from_secs);
        if lifetime.is_zero() || lifetime > token::MAX_LIFETIME {
            let most = token::MAX_LIFETIME.as_secs();
            return Err(ApiError::bad_request(format!("ttlSeconds must be 1 to {most} (a week)")));
        }
        if let Some(name) = &request.workload {
            self.fits(&world, name, request)?;
        }
        let grant = Grant {
            namespace: request.namespace.clone(),
            service_account: request.service_account.clone(),
            workload: request.workload.clone(),
        };
        let made = self.tokens.create(&grant, lifetime, SystemTime::now());
        let (token, expires) = made.map_err(|e| ApiError::internal(&e))?;
        Ok(types::Token { token, identity: identity.to_string(), expires: rfc3339(expires) })
    }

    fn roots(&self) -> String {
        self.ca.roots_pem()
    }

    fn rotation(&self) -> Result<types::Rotation> {
        let overview = self.rotations.overview();
        // Without roots of our own there is nothing to exchange, and still something to tell.
        let kept = self.ca.kept().ok();
        let rotation = kept.as_ref().and_then(|k| k.rotation.as_ref());
        Ok(types::Rotation {
            issuer: self.ca.issuer(),
            expires: rfc3339(self.ca.expires()),
            expired: self.ca.expires() <= SystemTime::now(),
            roots: self.ca.roots().borrow().len() as u64,
            phase: rotation.map(|r| r.phase.as_str().into()),
            waits_for: rotation.map(|r| r.phase.waits_for().into()).unwrap_or_default(),
            since: rotation.map(|r| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(r.since))).unwrap_or_default(),
            held: rotation.is_some_and(|r| r.hold),
            aborting: rotation.is_some_and(|r| r.aborting),
            proxies: overview.connected as u64,
            replicas: overview.replicas as u64,
            unaware: overview.facts.unaware as u64,
            stale: overview.facts.stale as u64,
            behind: overview.facts.behind as u64,
            names: overview.names,
            last: kept.map(|k| k.last).unwrap_or_default(),
        })
    }

    fn rotate(&self, request: &types::RotationRequest) -> Result<types::Rotation> {
        use types::RotationAction as Action;
        let now = SystemTime::now();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let done = match request.action {
            Action::Start => self.rotations.start(request.hold, now),
            Action::Hold => self.rotations.change(|kept| kept.hold(true)),
            Action::Resume => self.rotations.change(|kept| kept.hold(false)),
            Action::Abort => self.rotations.change(|kept| kept.abort(seconds)),
            Action::Force => self.rotations.go(None, now),
        };
        match done {
            Ok(_) => self.rotation(),
            Err(Refusal::No(why)) => {
                Err(ApiError::new(StatusCode::CONFLICT, "rotation", "The rotation cannot do this now", why))
            }
            Err(Refusal::Failed(error)) => Err(ApiError::internal(&error)),
        }
    }
}

impl IdentityPort {
    /// A token that would be refused later is refused now, while somebody looks.
    fn fits(&self, world: &World, name: &str, request: &types::TokenRequest) -> Result<()> {
        let Some(workload) = world.workload(&request.namespace, name) else { return Ok(()) };
        let account = &workload.item.spec.service_account;
        if *account == request.service_account {
            return Ok(());
        }
        let detail = format!(
            "Workload {}/{name} has the service account `{account}`, not `{}`",
            request.namespace, request.service_account
        );
        Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The token would be of no use", detail))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}
