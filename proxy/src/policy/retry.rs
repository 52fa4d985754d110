//! Trying again. What provably was never processed is tried again without any policy; the outcomes that a route declares
//! are tried again with back-off; both only while the cluster's budget and the request's time allow it, and while the
//! request's body can be sent again.

use crate::{
    alarm::until,
    body::{Body, Interim, Replay, ReplayMemory},
    error::{Error, Kind, RetrySafety},
    http1::Spelling,
    logic::{Permit, backoff},
    record::Record,
    request::{Attempt, AttemptFailed, Connection, Kept, Request, Routed, is_idempotent},
    stage::{Response, Stage},
    state::{Cluster, Route, RouteAction},
    upstream::{Message, Outgoing},
};
use http::{StatusCode, Version, header::CONTENT_LENGTH, request::Parts};
use http_body::Body as _;
use smallvec::SmallVec;
use std::{ops::ControlFlow, sync::Arc};
use tokio::time::Instant;
use weir_config::model::{GrpcCode, RetryOn, RetryPolicy};

/// Further tries of what was never processed, without a policy.
const SAFE_TRIES: u32 = 3;

/// Tries again.
pub struct Retry<N> {
    /// What carries out one try.
    pub next: N,
    /// The memory in which bodies are kept for further tries.
    pub memory: Arc<ReplayMemory>,
}

impl<N: Stage<Box<Attempt>, Failure = AttemptFailed>> Stage<Box<Routed>> for Retry<N> {
    type Failure = Error;

    async fn call(&self, routed: Box<Routed>) -> Result<Response, Error> {
        routed.cluster.budget.deposit(routed.request.received.into_std());
        let mut tries = Tries::new(*routed, &self.memory);
        loop {
            let attempt = tries.next()?;
            let (verdict, result) = match tries.judged(self.once(attempt, tries.policy()).await) {
                ControlFlow::Break(result) => return tries.end(result),
                ControlFlow::Continue(again) => again,
            };
            match tries.allowed(verdict).await {
                Ok(()) => {
                    if let Ok(response) = *result {
                        drain(response);
                    }
                }
                Err(refused) => return tries.refused(refused, *result),
            }
        }
    }
}

impl<N: Stage<Box<Attempt>, Failure = AttemptFailed>> Retry<N> {
    async fn once(&self, attempt: Box<Attempt>, policy: Option<&RetryPolicy>) -> Result<Response, AttemptFailed> {
        let limit = policy.and_then(|p| p.per_try_timeout);
        let record = attempt.record.clone();
        match until(limit.map(|limit| Instant::now() + limit), self.next.call(attempt)).await {
            Some(result) => result,
            None => {
                let slot = record.with(|r| r.slot);
                Err(AttemptFailed { error: Error::new(Kind::PerTryTimeout), message: None, slot })
            }
        }
    }
}

/// What came of a try.
type Outcome = Result<Response, AttemptFailed>;

/// Why another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The last one was sent as its kept connection closed. No fault of the endpoint's, and none that costs a retry.
    Stale,
    /// The last one was never processed.
    Safe,
    /// The route says so.
    Declared,
}

/// The tries of one request, and what they need of it: the rest is not kept while others answer it.
struct Tries {
    route: Arc<Route>,
    cluster: Arc<Cluster>,
    deadline: Option<Instant>,
    connection: Arc<Connection>,
    record: Record,
    spoken: Version,
    grpc: bool,
    /// What the next try sends, if it is at hand.
    message: Option<Message>,
    /// To make it anew.
    again: Option<Again>,
    replay: Option<Replay>,
    bodiless: bool,
    idempotent: bool,
    made: u32,
    safe: u32,
    declared: u32,
    /// The next one takes a new connection: a kept one has just been found closed.
    fresh: bool,
    tried: SmallVec<[usize; 2]>,
    _permit: Option<Permit>,
}

/// A message but for its body.
struct Again {
    head: Kept,
    spelling: Option<Spelling>,
    interim: Option<Interim>,
}

impl Again {
    fn message(&self, body: Body) -> Message {
        let Self { head, spelling, interim } = self;
        let request = http::Request::from_parts(head.head(), body);
        Box::new(Outgoing { request, spelling: spelling.clone(), interim: interim.clone() })
    }
}

impl Tries {
    fn new(routed: Routed, memory: &Arc<ReplayMemory>) -> Self {
        let Routed { request, route, cluster, deadline, .. } = routed;
        let Request { parts, body, connection, record, spelling, interim, spoken, fields, upgrading, .. } = *request;
        let bodiless = body.is_end_stream();
        let idempotent = is_idempotent(&parts.method);
        let worth_keeping = idempotent || policy_of(&route).is_some() || fields.grpc;
        let (body, replay) = match body {
            Body::Incoming(incoming) if worth_keeping && fits(&parts, memory) => {
                let replay = Replay::new(incoming, memory.clone());
                (replay.again().map_or(Body::Empty, Body::Replay), Some(replay))
            }
            body => (body, None),
        };
        let again = (bodiless || replay.is_some()) && worth_keeping && !upgrading;
        let again =
            again.then(|| Again { head: Kept::of(&parts), spelling: spelling.clone(), interim: interim.clone() });
        Self {
            route,
            cluster,
            deadline: deadline.map(|d| d.at),
            connection,
            record,
            spoken,
            grpc: fields.grpc,
            message: Some(Box::new(Outgoing { request: http::Request::from_parts(parts, body), spelling, interim })),
            again,
            replay,
            bodiless,
            idempotent,
            made: 0,
            safe: 0,
            declared: 0,
            fresh: false,
            tried: SmallVec::new(),
            _permit: None,
        }
    }

    fn policy(&self) -> Option<&RetryPolicy> {
        policy_of(&self.route)
    }

    fn next(&mut self) -> Result<Box<Attempt>, Error> {
        let message = self.message.take().ok_or_else(|| Kind::Internal.detail("a try without a message"))?;
        self.made += 1;
        let record = self.record.clone();
        record.with(|r| r.tries = self.made);
        Ok(Box::new(Attempt {
            message,
            cluster: self.cluster.clone(),
            client: self.connection.client(),
            grpc: self.grpc,
            spoken: self.spoken,
            tried: self.tried.clone(),
            fresh: self.fresh,
            deadline: self.end_of_try(),
            record,
            permit: None,
        }))
    }

    /// The end of the next try: of the request's time, or of the time that one try may take.
    fn end_of_try(&self) -> Option<Instant> {
        let per_try = self.policy().and_then(|p| p.per_try_timeout).map(|t| Instant::now() + t);
        [per_try, self.deadline].into_iter().flatten().min()
    }

    /// Whether, and why, there is another try after this outcome, if it is allowed; the next message is ready then. The
    /// outcome is kept in a box meanwhile: it is large, and mostly there is no further try.
    fn judged(&mut self, mut result: Outcome) -> ControlFlow<Outcome, (Verdict, Box<Outcome>)> {
        match self.verdict(&result) {
            Some(verdict) if self.prepare(verdict, &mut result) => ControlFlow::Continue((verdict, Box::new(result))),
            _ => ControlFlow::Break(result),
        }
    }

    /// Whether, and why, the outcome calls for another try.
    fn verdict(&self, result: &Outcome) -> Option<Verdict> {
        let policy = self.policy();
        let declared = || policy.is_some_and(|p| self.declared < p.attempts);
        match result {
            Err(failed) => {
                let kind = failed.error.kind();
                if matches!(
                    kind,
                    Kind::Overflow | Kind::NoHealthyEndpoint | Kind::CircuitOpen | Kind::IdentityUnavailable
                ) {
                    return None;
                }
                let safe = failed.error.retry().is_always_safe();
                if kind == Kind::StaleConnection && (safe || self.idempotent) && !self.fresh {
                    return Some(Verdict::Stale);
                }
                if safe && self.safe < SAFE_TRIES {
                    return Some(Verdict::Safe);
                }
                let on = &policy?.on;
                (error_declared(on, kind, failed.error.retry()) && declared()).then_some(Verdict::Declared)
            }
            Ok(response) => {
                let on = &policy?.on;
                (response_declared(on, response) && declared()).then_some(Verdict::Declared)
            }
        }
    }

    /// Gets the next message ready; `false` when it cannot be sent again.
    fn prepare(&mut self, verdict: Verdict, result: &mut Outcome) -> bool {
        match verdict {
            Verdict::Stale => self.fresh = true,
            Verdict::Safe => self.safe += 1,
            Verdict::Declared => self.declared += 1,
        }
        let slot = match result {
            Err(failed) => failed.slot,
            Ok(_) => self.record.with(|r| r.slot),
        };
        if verdict != Verdict::Stale {
            self.tried.extend(slot);
        }
        // A message that came back whole can go again as it is.
        if let Err(failed) = result
            && let Some(message) = failed.message.take()
        {
            self.message = Some(message);
            return true;
        }
        let Some(next) = &self.again else { return false };
        let body = match &self.replay {
            None if self.bodiless => Body::Empty,
            None => return false,
            Some(replay) => match replay.again() {
                Some(again) => Body::Replay(again),
                None => return false,
            },
        };
        self.message = Some(next.message(body));
        true
    }

    /// Waits until the next try may begin.
    async fn allowed(&mut self, verdict: Verdict) -> Result<(), Kind> {
        if verdict == Verdict::Stale {
            return Ok(());
        }
        let cluster = &self.cluster;
        if !cluster.budget.try_withdraw(std::time::Instant::now()) {
            return Err(Kind::RetryBudgetExhausted);
        }
        self._permit = None;
        self._permit = Some(cluster.limits.retries.try_acquire().ok_or(Kind::Overflow)?);
        // The first try after one that was never processed goes at once.
        if verdict == Verdict::Safe && self.safe == 1 {
            return Ok(());
        }
        let policy = self.policy().map(|p| p.backoff).unwrap_or_default();
        let wait = backoff::wait(&policy, self.made.saturating_sub(1), rand::random());
        if self.deadline.is_some_and(|at| Instant::now() + wait >= at) {
            return Err(Kind::DeadlineExceeded);
        }
        tokio::time::sleep(wait).await;
        self.record.with(|r| r.waited += wait);
        Ok(())
    }

    /// The outcome stands.
    fn end(self, result: Outcome) -> Result<Response, Error> {
        if let Some(replay) = &self.replay {
            replay.forget();
        }
        if result.is_ok() {
            self.connection.answered.set();
        }
        result.map_err(|failed| failed.error)
    }

    /// Another try was called for and not allowed: a response stands; an error says why it was the last.
    fn refused(self, why: Kind, result: Outcome) -> Result<Response, Error> {
        self.record.with(|r| {
            if r.in_words && r.told.reason_details.is_none() {
                r.told.reason_details = Some(format!("no further try: {why}").into());
            }
        });
        match self.end(result) {
            Ok(response) => Ok(response),
            Err(error) if why == Kind::RetryBudgetExhausted => Err(why.because(error)),
            Err(error) => Err(error),
        }
    }
}

fn policy_of(route: &Route) -> Option<&RetryPolicy> {
    match &route.action {
        RouteAction::Forward(forward) => forward.retry.as_ref(),
        _ => None,
    }
}

/// Whether a body may fit the memory for one request: one that says it does not is not remembered in vain.
fn fits(parts: &Parts, memory: &ReplayMemory) -> bool {
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    length.is_none_or(|length| length <= memory.request_cap())
}

fn error_declared(on: &RetryOn, kind: Kind, safety: RetrySafety) -> bool {
    let connect = matches!(kind, Kind::ConnectFailed | Kind::ConnectTimeout | Kind::TlsFailed | Kind::TlsPeerUntrusted);
    let reset = matches!(
        kind,
        Kind::UpstreamReset
            | Kind::UpstreamClosed
            | Kind::StaleConnection
            | Kind::UpstreamRefused
            | Kind::PerTryTimeout
    );
    let status = kind.status().as_u16();
    (on.connect_failure && connect)
        || (on.reset && reset)
        || ((on.server_error || on.statuses.contains(&status)) && (connect || reset))
        || (on.gateway_error && (connect || reset) && safety.is_always_safe())
        || (on.grpc.contains(&kind.grpc_code()) && (connect || reset))
}

fn response_declared(on: &RetryOn, response: &Response) -> bool {
    let status = response.status();
    let grpc = || {
        let code = response.headers().get("grpc-status")?.to_str().ok()?.parse().ok().and_then(GrpcCode::new)?;
        on.grpc.contains(&code).then_some(())
    };
    (on.server_error && status.is_server_error())
        || (on.gateway_error
            && matches!(
                status,
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            ))
        || on.statuses.contains(&status.as_u16())
        || grpc().is_some()
}

/// Reads what is left of a response that nobody wants, so that its connection can be used again; large ones are cut.
fn drain(response: Response) {
    let body = response.into_body();
    let small = body.size_hint().upper().is_some_and(|n| n <= 64 * 1024);
    if body.is_end_stream() || !small {
        return;
    }
    tokio::spawn(async move {
        let read = http_body_util::BodyExt::collect(body);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), read).await;
    });
}
