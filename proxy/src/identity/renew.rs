//! Keeping the certificate fresh: early enough that failures have time to pass, quick when they do not.

use super::{Authority, Identity, PrivateKey, SignError, Signed, Store, store};
use crate::{
    telemetry::Metrics,
    tls::{Bundle, Credentials},
};
use rand::Rng;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use weir_config::model::{SpiffeId, TrustDomain};

/// Sleeps are cut into pieces of this length: a suspended machine's clock jumps, and a sleep does not see it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// While the certificate is good.
const SLOWEST_RETRY: Duration = Duration::from_secs(30);
/// Without a good one nothing works, so we ask more often.
const SLOWEST_URGENT_RETRY: Duration = Duration::from_secs(3);
/// When the issuer has changed, a mesh renews within this time, and not all at one instant.
const SPREAD: Duration = Duration::from_secs(30);
/// Renewals that one bundle brings about: another control plane may put its roots in any order.
const MOST_FOR_A_BUNDLE: u32 = 4;

/// What the certificate should be.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The life to ask for; `None`: the authority's own choice.
    pub life: Option<Duration>,
    /// Whose identities are ours.
    pub domain: TrustDomain,
    /// Who we expect to be; an authority that says otherwise is told apart from one that works. `None`: whoever it says.
    pub id: Option<SpiffeId>,
}

/// Obtains and renews the certificate, for ever.
pub struct Renewal<A, N> {
    /// Where it is taken into use.
    pub identity: Arc<Identity>,
    /// Who signs.
    pub authority: A,
    /// Where it is kept.
    pub store: Option<Store>,
    /// What is asked for.
    pub wish: Wish,
    /// Where its end is told, and successes and failures are counted.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub now: N,
}

impl<A: Authority, N: Fn() -> SystemTime> Renewal<A, N> {
    /// Takes a kept identity into use, if it is still good; then renews on time. `never` returns.
    pub async fn run(self) {
        let mut due = self.resume();
        let mut failures = 0;
        let mut superseded = Superseded::default();
        loop {
            self.wait(due, &mut superseded).await;
            match self.renew().await {
                Ok(end) => {
                    due = renewal(end.received, end.not_after, rand::rng().random());
                    failures = 0;
                }
                Err(error) => {
                    failures += 1;
                    self.metrics.certificate_failures.inc();
                    self.identity.note_failure(&error);
                    let left = self.left();
                    let wait = retry(failures, left, rand::rng().random());
                    if left.is_zero() {
                        tracing::error!(%error, ?wait, "no certificate; trying again");
                    } else {
                        tracing::warn!(%error, ?wait, ?left, "the certificate was not renewed; trying again");
                    }
                    due = (self.now)() + wait;
                }
            }
        }
    }

    /// A kept identity is good enough to start with.
    fn resume(&self) -> SystemTime {
        let now = (self.now)();
        let Some(kept) = self.store.as_ref().and_then(Store::load) else { return now };
        let leaf = kept.credentials.leaf().clone();
        if !kept.is_valid(now) || kept.bundle.domain() != &self.wish.domain || !self.is_ours(&leaf.id) {
            tracing::info!(id = %leaf.id, "the kept certificate has expired or is another's; a new one is asked for");
            // Its roots may still be good to know the control plane by.
            if kept.bundle.domain() == &self.wish.domain {
                self.identity.set_bundle(kept.bundle);
            }
            return now;
        }
        tracing::info!(id = %leaf.id, "the kept certificate is taken into use");
        self.identity.set_bundle(kept.bundle);
        self.use_credentials(kept.credentials);
        renewal(kept.received, leaf.not_after, rand::rng().random()).max(now)
    }

    async fn renew(&self) -> Result<End, SignError> {
        // A new key for each certificate: a key that leaked is of use no longer than its certificate.
        let key = PrivateKey::generate().map_err(unavailable)?;
        let request = key.request().map_err(unavailable)?;
        let signed = self.authority.sign(request, self.wish.life).await?;
        let credentials = Credentials::new(signed.chain.clone(), key.pkcs8()).map_err(unavailable)?;
        let leaf = credentials.leaf().clone();
        let received = (self.now)();
        if !self.is_ours(&leaf.id) {
            return Err(SignError::Refused(format!("the certificate is for {}, which we are not", leaf.id)));
        }
        if leaf.not_after <= received {
            return Err(SignError::Unavailable("the certificate that was sent has expired: is a clock wrong?".into()));
        }
        let bundle = self.bundle(&signed)?;
        self.identity.set_bundle_if_none(&bundle);
        self.use_credentials(credentials);
        self.metrics.certificate_renewals.inc();
        tracing::info!(id = %leaf.id, life = ?leaf.not_after.duration_since(received).unwrap_or_default(), "certificate in use");
        self.keep(key, signed, bundle, received).await;
        Ok(End { received, not_after: leaf.not_after })
    }

    fn use_credentials(&self, credentials: Credentials) {
        let end = credentials.leaf().not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.certificate_expiration.set(end.as_secs_f64());
        self.identity.set_credentials(credentials);
    }

    /// The bundle in use; the first time, the roots that came with the certificate.
    fn bundle(&self, signed: &Signed) -> Result<Arc<Bundle>, SignError> {
        match self.identity.bundle() {
            Some(bundle) => Ok(bundle),
            None => store::bundle_of(signed, &self.wish.domain)
                .map(Arc::new)
                .ok_or_else(|| SignError::Unavailable("no root came with the certificate".into())),
        }
    }

    async fn keep(&self, key: PrivateKey, signed: Signed, bundle: Arc<Bundle>, received: SystemTime) {
        let Some(store) = self.store.clone() else { return };
        let saved = tokio::task::spawn_blocking(move || store.save(&key, &signed.chain, &bundle, received)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the certificate could not be kept on disk; a restart needs the control plane");
        }
    }

    fn is_ours(&self, id: &SpiffeId) -> bool {
        id.trust_domain() == self.wish.domain.as_str() && self.wish.id.as_ref().is_none_or(|ours| ours == id)
    }

    /// Returns when a renewal is due: at that time, or soon after the bundle has named another issuer.
    async fn wait(&self, mut due: SystemTime, superseded: &mut Superseded) {
        let mut changes = self.identity.changes();
        loop {
            changes.borrow_and_update();
            if superseded.asks(&self.identity) {
                let spread = SPREAD.min(self.left() / 8).mul_f64(rand::rng().random());
                tracing::info!(within = ?spread, "certificates are of another issuer now; ours is renewed");
                due = due.min((self.now)() + spread);
            }
            tokio::select! {
                () = self.sleep_until(due) => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    fn left(&self) -> Duration {
        let end = self.identity.current().map(|c| c.leaf().not_after);
        end.and_then(|end| end.duration_since((self.now)()).ok()).unwrap_or_default()
    }

    async fn sleep_until(&self, due: SystemTime) {
        while let Ok(rest) = due.duration_since((self.now)()) {
            if rest.is_zero() {
                return;
            }
            tokio::time::sleep(rest.min(LONGEST_SLEEP)).await;
        }
    }
}

/// How often the bundle in use has brought about a renewal.
#[derive(Default)]
struct Superseded {
    bundle: Option<Arc<Bundle>>,
    certificate: Option<String>,
    renewals: u32,
}

impl Superseded {
    /// Whether to renew now; says so once for each bundle and certificate.
    fn asks(&mut self, identity: &Identity) -> bool {
        let (bundle, current) = (identity.bundle(), identity.current());
        if self.bundle != bundle {
            *self = Self { bundle, ..Self::default() };
        }
        let serial = current.map(|c| c.leaf().serial.clone());
        if !identity.is_superseded() || self.certificate == serial || self.renewals >= MOST_FOR_A_BUNDLE {
            return false;
        }
        self.certificate = serial;
        self.renewals += 1;
        true
    }
}

struct End {
    received: SystemTime,
    not_after: SystemTime,
}

fn unavailable(error: impl std::fmt::Display) -> SignError {
    SignError::Unavailable(error.to_string())
}

/// When to renew: at two thirds to four fifths of the life as it was when the certificate arrived (its own begin lies
/// before that, since clocks differ). `random` in 0..1 spreads the sidecars that were started together.
fn renewal(received: SystemTime, not_after: SystemTime, random: f64) -> SystemTime {
    let life = not_after.duration_since(received).unwrap_or_default();
    received + life.mul_f64(2.0 / 3.0 + random * (4.0 / 5.0 - 2.0 / 3.0))
}

/// How long to wait after the `failures`-th failure in a row: doubling with full jitter, never so long that less than
/// three tries fit into what is `left` of the certificate's life.
fn retry(failures: u32, left: Duration, random: f64) -> Duration {
    let slowest = if left.is_zero() { SLOWEST_URGENT_RETRY } else { SLOWEST_RETRY.min(left / 3).max(FIRST_RETRY) };
    let step = FIRST_RETRY.saturating_mul(2u32.saturating_pow(failures.min(16))).min(slowest);
    // Never at once: an authority that refuses in a microsecond must not be asked in a tight loop.
    (step / 4).max(Duration::from_millis(50)) + step.mul_f64(0.75 * random)
}

#[cfg(test)]
mod tests;
