//! The ADS stream: opened, kept, opened again; between the wire and the machine.

use super::{
    Cache, Status,
    machine::{Machine, Request},
};
use crate::{
    identity::{ControlPlane, Identity},
    telemetry::Metrics,
    tls::Bundle,
};
use rand::Rng;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weir_config::{
    model::{Kind, ResourceName, Resources},
    xds::{
        self,
        ads::{AggregatedDiscoveryServiceClient, DeltaDiscoveryResponse, ISSUER, Node},
    },
};

/// The largest response that is read.
const MAX_RESPONSE: usize = 16 * 1024 * 1024;
/// Messages that wait to be sent; a control plane that does not read is left.
const OUTBOX: usize = 256;
const FIRST_RETRY: Duration = Duration::from_millis(100);
const SLOWEST_RETRY: Duration = Duration::from_secs(10);
/// A stream that has lived so long was a good one: the back-off begins anew.
const GOOD_STREAM: Duration = Duration::from_secs(10);
/// How long a stream's answer may take to begin.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// What is idle is looked for so often, or more often where idleness is short.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// A changed configuration is written to disk at most so often.
const SAVE_AFTER: Duration = Duration::from_secs(2);
/// Who looks so long after it should have has stood still with its whole process.
const LATE: Duration = Duration::from_secs(1);
/// The trust bundle's name.
const BUNDLE: &str = "ROOTCA";

/// Where the configuration goes.
pub trait Sink: Send + Sync + 'static {
    /// Uses this configuration. `absent`: authorities that do not exist.
    fn apply(&self, resources: &Resources, absent: &BTreeSet<ResourceName>);
    /// Authorities that nobody has called for so long.
    fn idle(&self, idle: Duration) -> Vec<ResourceName>;
}

/// Whether this process stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// It does.
    Here,
    /// It goes down, and its workload takes no more requests.
    Leaving,
    /// Another process of the same workload has taken over: what is kept on disk is that one's.
    Succeeded,
}

/// The client of one control plane.
pub struct Client<S> {
    /// Where it is.
    pub control_plane: ControlPlane,
    /// Who we are; its bundle follows the control plane's.
    pub identity: Arc<Identity>,
    /// `<namespace>/<workload>` and where it stands.
    pub node: Node,
    /// Authorities that applications call.
    pub wanted: mpsc::Receiver<ResourceName>,
    /// Where the configuration goes.
    pub sink: S,
    /// Where the last good one is kept.
    pub cache: Option<Cache>,
    /// How it stands.
    pub status: Arc<Status>,
    /// Where refusals and applications are counted.
    pub metrics: Arc<Metrics>,
    /// An authority that nobody has called for so long is forgotten.
    pub idle: Duration,
    /// Whether we stay, and what the control plane and the disk are told.
    pub stay: watch::Receiver<Stay>,
}

impl<S: Sink> Client<S> {
    /// Uses what was kept, then follows the control plane for ever.
    pub async fn run(mut self) {
        let now = Instant::now();
        let inbound = ResourceName::from(format!("inbound/{}", self.node.id));
        let roots = [(Kind::Secret, ResourceName::from(BUNDLE)), (Kind::Listener, inbound)];
        let mut machine = Machine::new(self.node.clone(), roots, now);
        if let Some(cache) = &self.cache {
            machine.restore(cache.load(), now);
            if self.publish(&mut machine, &mut None) {
                tracing::info!(authorities = machine.authorities(), "the kept configuration is in use");
                self.status.set_configured();
            }
        }
        let mut dirty = None;
        let mut failures = 0u32;
        loop {
            let began = Instant::now();
            let why = match self.stream(&mut machine, &mut dirty).await {
                Ok(()) => "the control plane ended the stream".to_owned(),
                Err(why) => why,
            };
            machine.disconnect();
            if self.status.is_connected() {
                // It had begun, so this replica goes down, or is cut off.
                self.control_plane.leave();
            }
            self.metrics.control_plane_connected.set(0.0);
            self.status.set_disconnected(why.clone());
            failures = if began.elapsed() >= GOOD_STREAM { 1 } else { failures.saturating_add(1) };
            let wait = back_off(failures, rand::rng().random());
            tracing::warn!(%why, ?wait, "no configuration stream; what is in use stays");
            self.pause(&mut machine, &mut dirty, wait).await;
        }
    }

    /// One stream, from its opening to its end.
    async fn stream(&mut self, machine: &mut Machine, dirty: &mut Option<Instant>) -> Result<(), String> {
        self.certified(machine).await;
        let channel = self.control_plane.connect(&self.identity, true).await.map_err(|e| e.to_string())?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        if *self.stay.borrow() == Stay::Leaving {
            machine.leave();
        }
        let issuer = self.issuer();
        machine.say(ISSUER, &issuer);
        // Sent before the answer is awaited: the control plane answers the call only once it has a request.
        send(&outbox, machine.connect(Instant::now()))?;
        let call = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
        let responses = tokio::time::timeout(OPEN_LIMIT, call)
            .await
            .map_err(|_| format!("the stream did not begin within {OPEN_LIMIT:?}"))?
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?
            .into_inner();
        self.status.set_connected();
        self.metrics.control_plane_connected.set(1.0);
        tracing::info!(control_plane = self.control_plane.address, "configuration stream opened");
        self.follow(machine, dirty, issuer, outbox, responses).await
    }

    async fn follow(
        &mut self,
        machine: &mut Machine,
        dirty: &mut Option<Instant>,
        mut issuer: String,
        outbox: mpsc::Sender<Request>,
        mut responses: Streaming<DeltaDiscoveryResponse>,
    ) -> Result<(), String> {
        let mut tidy = tokio::time::interval(TIDY_EVERY.min(self.idle));
        let mut stay = self.stay.clone();
        let mut is_told = *stay.borrow() == Stay::Leaving;
        let mut certificates = self.identity.changes();
        certificates.mark_changed();
        loop {
            let due = machine.deadline(Instant::now());
            let warm = sleep_until(due);
            let save = sleep_until(dirty.map(|since| since + SAVE_AFTER));
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        let kind = xds::kind_of(&response.type_url).map_or("unknown", Kind::as_str);
                        let outcome = machine.response(response, Instant::now());
                        for (name, why) in &outcome.refused {
                            self.metrics.config_rejected(kind);
                            tracing::warn!(%name, kind, %why, "a resource was refused; the last good one stays");
                        }
                        self.status.note_response(outcome.accepted, outcome.refused.len());
                        if outcome.accepted + outcome.removed > 0 {
                            dirty.get_or_insert_with(Instant::now);
                        }
                        send(&outbox, outcome.requests)?;
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(format!("{:?}: {}", status.code(), status.message())),
                },
                Some(authority) = self.wanted.recv() => send(&outbox, self.want(machine, &authority))?,
                _ = tidy.tick() => {
                    let mut requests = machine.tidy(Instant::now());
                    for authority in self.sink.idle(self.idle) {
                        requests.extend(machine.forget(&authority, Instant::now()));
                    }
                    send(&outbox, requests)?;
                }
                // The control plane takes an old root away only when nobody shows a certificate of it any more.
                Ok(()) = certificates.changed() => {
                    let now = self.issuer();
                    if now != issuer {
                        send(&outbox, machine.say(ISSUER, &now))?;
                        issuer = now;
                    }
                }
                () = leaving(&mut stay), if !is_told => {
                    is_told = true;
                    send(&outbox, machine.leave())?;
                }
                () = warm => {}
                () = save => self.save(machine, dirty).await,
            }
            let now = Instant::now();
            if let Some(due) = due.filter(|due| now.saturating_duration_since(*due) >= LATE) {
                machine.excuse(due, now);
            }
            let mut requests = Some(Vec::new());
            self.publish(machine, &mut requests);
            send(&outbox, requests.unwrap_or_default())?;
        }
    }

    /// Waits for a certificate: without one the control plane does not talk to us.
    async fn certified(&mut self, machine: &mut Machine) {
        let mut changes = self.identity.changes();
        while !self.identity.is_ready(std::time::SystemTime::now()) {
            tokio::select! {
                _ = changes.changed() => {}
                Some(authority) = self.wanted.recv() => drop(self.want(machine, &authority)),
                // A certificate may become valid by time alone.
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Between two streams: demand is still noted, so that nobody who asks waits for a full channel.
    async fn pause(&mut self, machine: &mut Machine, dirty: &mut Option<Instant>, wait: Duration) {
        self.save(machine, dirty).await;
        let end = tokio::time::sleep(wait);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                Some(authority) = self.wanted.recv() => drop(self.want(machine, &authority)),
            }
        }
    }

    /// The key that signed our certificate.
    fn issuer(&self) -> String {
        self.identity.current().map(|c| c.leaf().issuer.clone()).unwrap_or_default()
    }

    fn want(&self, machine: &mut Machine, authority: &ResourceName) -> Vec<Request> {
        let requests = machine.want(authority, Instant::now());
        self.status.set_authorities(machine.authorities());
        requests.unwrap_or_else(|| {
            self.status.note_dropped_demand();
            tracing::warn!(%authority, "not asked for: too many authorities are in use, or it is none");
            Vec::new()
        })
    }

    /// Passes on what is complete, if it has changed.
    fn publish(&self, machine: &mut Machine, requests: &mut Option<Vec<Request>>) -> bool {
        let now = Instant::now();
        let published = machine.publish(now);
        let changed = published.is_some();
        if let Some(published) = published {
            self.use_bundle(&published.resources);
            self.sink.apply(&published.resources, &published.absent);
            self.metrics.config_applied().observe(now.elapsed());
            self.status.note_applied(published.resources, published.absent, machine.version());
            self.status.set_authorities(machine.authorities());
            if let Some(requests) = requests {
                requests.extend(published.requests);
            }
        }
        self.status.set_refusals(machine.refused());
        if self.status.is_connected() && machine.is_settled(now) {
            self.status.set_configured();
        }
        changed
    }

    /// First the bundle, then what relies on it.
    fn use_bundle(&self, resources: &Resources) {
        let Some(bundle) = resources.bundles.get(BUNDLE) else { return };
        let ours = self.identity.current().map(|c| c.leaf().id.trust_domain().to_owned());
        if ours.is_some_and(|ours| ours != bundle.trust_domain.as_str()) {
            tracing::error!(domain = %bundle.trust_domain, "a trust bundle of another trust domain is not used");
            return;
        }
        match Bundle::from_model(bundle) {
            Ok(bundle) => self.identity.set_bundle(bundle),
            Err(error) => tracing::error!(%error, "the trust bundle is not used"),
        }
    }

    async fn save(&self, machine: &Machine, dirty: &mut Option<Instant>) {
        if dirty.take().is_none() || *self.stay.borrow() == Stay::Succeeded {
            return;
        }
        let Some(cache) = self.cache.clone() else { return };
        let resources: Vec<_> = machine.raw().collect();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || cache.save(resources)).await {
            tracing::warn!(%error, "the configuration could not be kept on disk; a restart needs the control plane");
        }
    }
}

fn send(outbox: &mpsc::Sender<Request>, requests: Vec<Request>) -> Result<(), String> {
    for request in requests {
        outbox.try_send(request).map_err(|_| "the control plane does not read what is sent to it".to_owned())?;
    }
    Ok(())
}

/// Returns when this process leaves.
async fn leaving(stay: &mut watch::Receiver<Stay>) {
    if stay.wait_for(|stay| *stay == Stay::Leaving).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// Doubling with full jitter: a whole mesh that lost its control plane must not come back at one instant.
fn back_off(failures: u32, random: f64) -> Duration {
    let step = FIRST_RETRY.saturating_mul(2u32.saturating_pow(failures.min(16))).min(SLOWEST_RETRY);
    Duration::from_millis(20) + step.mul_f64(random)
}
