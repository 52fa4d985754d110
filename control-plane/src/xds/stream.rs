//! One stream: the machine, fed by the client and by the newest world.

use super::{
    machine::{Limits, Machine, Verdict, View as _},
    node::Said,
    view::{Catalog, Generation},
    wire::Wire,
};
use crate::{
    ca::BUNDLE,
    fleet::{Fleet, Seat, Trust, Who},
    metrics::Metrics,
    tls::Peer,
};
use futures::FutureExt as _;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use weir_config::{model::Kind, xds::ads};

/// Messages taken in before the next look at what to send.
const BATCH: usize = 64;
/// A client that takes nothing for so long is cut off: it would hold its responses for ever.
const TAKE: Duration = Duration::from_secs(60);
/// The first message has to come by then.
const HELLO: Duration = Duration::from_secs(30);

/// What all streams share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    pub(super) fleet: Arc<Fleet>,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
}

/// Why a stream ends: the client's doing, or a status for it.
type End = Option<Status>;

/// Serves one stream to its end.
pub(super) async fn run<W: Wire>(
    shared: Shared,
    peer: Peer,
    mut inbound: tonic::Streaming<W::In>,
    outbound: mpsc::Sender<Result<W::Out, Status>>,
) {
    let mut generations = shared.catalog.watch();
    let end = match Stream::<W>::open(&shared, peer, &mut inbound, &mut generations, outbound.clone()).await {
        Ok(mut stream) => stream.serve(&mut inbound, &mut generations).await,
        Err(end) => end,
    };
    if let Some(status) = end {
        Metrics::count(&shared.metrics.streams_refused, word(&status));
        tracing::info!(code = ?status.code(), reason = status.message(), "an xDS stream was ended");
        // A client that is gone needs no reason.
        let _ = outbound.send_timeout(Err(status), Duration::from_secs(1)).await;
    }
}

fn word(status: &Status) -> &'static str {
    match status.code() {
        tonic::Code::Unauthenticated => "unauthenticated",
        tonic::Code::PermissionDenied => "permission_denied",
        tonic::Code::ResourceExhausted => "limit",
        tonic::Code::DeadlineExceeded => "slow_client",
        tonic::Code::Unavailable => "stopping",
        _ => "protocol",
    }
}

struct Stream<'a, W: Wire> {
    shared: &'a Shared,
    peer: Peer,
    said: Said,
    seat: Seat,
    machine: Machine,
    generation: Arc<Generation>,
    view: super::view::NodeView,
    outbound: mpsc::Sender<Result<W::Out, Status>>,
    subscriptions: i64,
    trust: Trust,
}

impl<'a, W: Wire> Stream<'a, W> {
    /// Takes the first message, which says who it is, and answers it.
    async fn open(
        shared: &'a Shared,
        peer: Peer,
        inbound: &mut tonic::Streaming<W::In>,
        generations: &mut watch::Receiver<Arc<Generation>>,
        outbound: mpsc::Sender<Result<W::Out, Status>>,
    ) -> Result<Self, End> {
        let first = tokio::time::timeout(HELLO, inbound.message());
        let first = first.await.map_err(|_| Some(Status::deadline_exceeded("no first message came")))?;
        let Ok(Some(first)) = first else { return Err(None) };
        let (node, url, request) = W::request(first);
        let node = node.ok_or_else(|| Some(Status::invalid_argument("the first message must have a node")))?;
        let said = Said::new(&node);
        let generation = generations.borrow_and_update().clone();
        let admitted = said.admitted(peer.identity.as_ref(), &generation.world).map_err(Some)?;
        let who = Who {
            node: said.id.clone(),
            identity: peer.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
            address: peer.address,
            version: said.version.clone(),
            agent: said.agent.clone(),
            protocol: W::WORD,
        };
        let mut stream = Self {
            shared,
            peer,
            said,
            seat: shared.fleet.connect(who),
            machine: Machine::new(W::PROTOCOL, shared.limits),
            view: generation.of(admitted),
            generation,
            outbound,
            subscriptions: 0,
            trust: Trust::default(),
        };
        if !stream.said.leaving {
            stream.seat.stays();
        }
        stream.heed(&node);
        stream.take(&url, request)?;
        stream.push(true).await?;
        Ok(stream)
    }

    async fn serve(
        &mut self,
        inbound: &mut tonic::Streaming<W::In>,
        generations: &mut watch::Receiver<Arc<Generation>>,
    ) -> End {
        loop {
            let step = tokio::select! {
                message = inbound.message() => self.messages(message, inbound),
                changed = generations.changed() => match changed {
                    Ok(()) => self.world(generations.borrow_and_update().clone()),
                    Err(_) => Err(Some(stopping())),
                },
                () = self.shared.stop.cancelled() => Err(Some(stopping())),
            };
            let looked = match step {
                Ok(looked) => looked,
                Err(end) => return end,
            };
            if let Err(end) = self.push(looked).await {
                return end;
            }
        }
    }

    /// Takes a message and those that are there already: a client that has just connected says several things, and what
    /// is right to send depends on all of them.
    fn messages(
        &mut self,
        mut message: Result<Option<W::In>, Status>,
        inbound: &mut tonic::Streaming<W::In>,
    ) -> Result<bool, End> {
        for _ in 0..BATCH {
            // Closed, or the connection is gone.
            let Ok(Some(one)) = message else { return Err(None) };
            let (node, url, request) = W::request(one);
            if let Some(node) = &node {
                self.heed(node);
            }
            self.take(&url, request)?;
            match inbound.message().now_or_never() {
                Some(next) => message = next,
                None => break,
            }
        }
        Ok(false)
    }

    /// Of what a client says of itself later than in the beginning, two things count: that it goes down, and who signed
    /// its certificate.
    fn heed(&mut self, node: &ads::Node) {
        let said = Said::new(node);
        self.trust.issuer = said.issuer.into();
        if said.leaving {
            self.seat.leaves();
        }
    }

    /// What the client trusts, as far as it has said.
    fn report_trust(&mut self) {
        let applied = self.machine.applied(Kind::Secret, BUNDLE);
        self.trust.asks = applied.is_some();
        let newest = self.view.resource(Kind::Secret, BUNDLE);
        if applied.flatten().is_some_and(|version| newest.is_some_and(|newest| newest.version == *version)) {
            self.trust.roots = self.generation.roots_id.clone();
        }
        self.seat.trusts(self.trust.clone());
    }

    fn take(&mut self, url: &str, request: super::machine::Request) -> Result<(), End> {
        // Resources of other kinds (extension configs, runtime) are not ours to give, and asking is no fault.
        let Some(kind) = ads::kind_of(url) else { return Ok(()) };
        Metrics::count(&self.shared.metrics.requests, kind.as_str());
        let verdict = self.machine.request(kind, request).map_err(|violation| Some(refused(&violation)))?;
        if let Verdict::Refused(refusal) = verdict {
            Metrics::count(&self.shared.metrics.nacks, kind.as_str());
            let (node, why) = (&self.said.id, &refusal.message);
            tracing::warn!(%node, kind = kind.as_str(), names = ?refusal.names, %why, "a proxy refused its configuration");
            self.seat.refused(&refusal);
        }
        let now = i64::try_from(self.machine.subscriptions()).unwrap_or(i64::MAX);
        self.shared.metrics.subscriptions.add(now - self.subscriptions);
        self.subscriptions = now;
        Ok(())
    }

    /// Takes a new world; the client must still be who it says in it.
    fn world(&mut self, generation: Arc<Generation>) -> Result<bool, End> {
        let node = self.said.admitted(self.peer.identity.as_ref(), &generation.world).map_err(Some)?;
        if generation.world.version() == self.generation.world.version() {
            // Only the roots are new.
            self.machine.forget_world();
        }
        self.view = generation.of(node);
        self.generation = generation;
        Ok(true)
    }

    /// Sends what the client is owed.
    async fn push(&mut self, looked: bool) -> Result<(), End> {
        let world = self.generation.world.version();
        let polled = self.machine.poll(world, &self.view);
        if looked {
            self.seat.looked(world, polled.concerned);
        }
        self.seat.progress(self.machine.behind_since(), Kind::ALL.map(|kind| (kind, self.machine.standing(kind))));
        self.report_trust();
        for push in polled.pushes {
            let kind = push.kind.as_str();
            let bytes: usize = push.resources.iter().map(|r| r.bytes.len()).sum();
            let queue = Queued::new(&self.shared.metrics);
            let sent = tokio::select! {
                sent = self.outbound.send_timeout(Ok(W::response(push, world)), TAKE) => sent,
                () = self.shared.stop.cancelled() => return Err(Some(stopping())),
            };
            drop(queue);
            sent.map_err(|e| match e {
                mpsc::error::SendTimeoutError::Timeout(_) => {
                    Some(Status::deadline_exceeded("the client has not read for a minute"))
                }
                mpsc::error::SendTimeoutError::Closed(_) => None,
            })?;
            Metrics::count(&self.shared.metrics.pushes, kind);
            self.shared.metrics.push_bytes.with_label_values(&[kind]).inc_by(bytes as u64);
        }
        Ok(())
    }
}

impl<W: Wire> Drop for Stream<'_, W> {
    fn drop(&mut self) {
        self.shared.metrics.subscriptions.sub(self.subscriptions);
    }
}

/// Counts a response that waits for room.
struct Queued<'a>(&'a Metrics);

impl<'a> Queued<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.queue.inc();
        Self(metrics)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.queue.dec();
    }
}

fn stopping() -> Status {
    Status::unavailable("the control plane is stopping")
}

fn refused(violation: &super::machine::Violation) -> Status {
    use super::machine::Violation;
    match violation {
        Violation::TooManyNames(_) | Violation::LongName(..) => Status::resource_exhausted(violation.to_string()),
        Violation::WrongProtocol => Status::internal(violation.to_string()),
    }
}
