//! Which endpoint takes a try, and what its outcome says about that endpoint: to the average that the next choice is made
//! by, and to the breaker that ejects those that fail.

use crate::{
    error::Kind,
    logic::Outcome,
    request::{Attempt, AttemptFailed, Placed},
    stage::{Response, Stage},
    state::Call,
    telemetry::record::AttemptResult,
};
use http::HeaderMap;
use std::time::Instant;
use weir_config::model::GrpcCode;

/// Chooses an endpoint.
pub struct Balance<N>(pub N);

impl<N: Stage<Placed, Failure = AttemptFailed>> Stage<Box<Attempt>> for Balance<N> {
    type Failure = AttemptFailed;

    async fn call(&self, mut attempt: Box<Attempt>) -> Result<Response, AttemptFailed> {
        let begun = Instant::now();
        let chosen = match attempt.cluster.pick(&attempt.tried, begun) {
            Ok(chosen) => chosen,
            Err(error) => return Err(AttemptFailed { error, message: Some(attempt.message), slot: None }),
        };
        let number = attempt.record.with(|r| r.try_begins(&chosen, begun));
        let (grpc, record, metrics) = (attempt.grpc, attempt.record.clone(), attempt.cluster.metrics.clone());
        let permit = attempt.permit.take();
        let mut watched = Watched { call: Some(attempt.cluster.begin(&chosen, begun)), deadline: attempt.deadline };
        let slot = chosen.slot;
        let result = self.0.call(Placed { attempt, endpoint: chosen.endpoint, begun: begun.into() }).await;
        let Some(mut call) = watched.call.take() else { return result };
        let now = Instant::now();
        let took = now.saturating_duration_since(begun);
        match result {
            Ok(mut response) => {
                let code = grpc.then(|| grpc_status(response.headers())).flatten();
                let outcome = match code {
                    Some(code) => Outcome::of_grpc(code),
                    None => Outcome::of_status(response.status()),
                };
                let status = response.status().as_u16();
                record.with(|r| r.try_ends(took, AttemptResult::Answered(status, code.map(GrpcCode::number))));
                metrics.attempt(number, if outcome.is_failure() { "failure" } else { "success" });
                call.answered(outcome, now);
                response.body_mut().hold().things.push(Box::new((call, permit)));
                Ok(response)
            }
            Err(failed) => {
                record.with(|r| r.try_ends(took, AttemptResult::Failed(failed.error.kind())));
                metrics.attempt(number, failed.error.reason());
                call.failed(failed.error.kind());
                Err(AttemptFailed { slot: failed.slot.or(Some(slot)), ..failed })
            }
        }
    }
}

/// A try that is given up from outside: its time was over, which is the endpoint's failure, or the caller went away.
struct Watched {
    call: Option<Call>,
    deadline: Option<tokio::time::Instant>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(mut call) = self.call.take() {
            let over = self.deadline.is_some_and(|at| at <= tokio::time::Instant::now());
            call.failed(if over { Kind::PerTryTimeout } else { Kind::ClientDisconnected });
        }
    }
}

/// The status of a trailers-only response.
fn grpc_status(headers: &HeaderMap) -> Option<GrpcCode> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok().and_then(GrpcCode::new)
}
