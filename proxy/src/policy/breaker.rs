//! Circuit breaking by limits: above its limit of requests under way, a cluster gets no more; they are refused at once
//! (`overflow`), not queued. Breaking by outcome is where endpoints are chosen, in `balance`.

use crate::{
    error::Kind,
    request::{Attempt, AttemptFailed},
    stage::{Response, Stage},
};

/// Refuses what is above the limit.
pub struct Breaker<N>(pub N);

impl<N: Stage<Box<Attempt>, Failure = AttemptFailed>> Stage<Box<Attempt>> for Breaker<N> {
    type Failure = AttemptFailed;

    async fn call(&self, mut attempt: Box<Attempt>) -> Result<Response, AttemptFailed> {
        let Some(permit) = attempt.cluster.limits.requests.try_acquire() else {
            let error = Kind::Overflow.detail("the cluster's limit of requests is reached");
            return Err(AttemptFailed { error, message: Some(attempt.message), slot: None });
        };
        attempt.permit = Some(permit);
        self.0.call(attempt).await
    }
}
