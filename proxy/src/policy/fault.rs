//! Faults on purpose: a share of requests is held back, a share is answered here.

use crate::{
    error::{Error, Kind},
    request::Routed,
    stage::{Response, Stage},
};
use http::StatusCode;
use weir_config::model::Abort;

/// Delays and aborts.
pub struct Fault<N>(pub N);

impl<N: Stage<Box<Routed>, Failure = Error>> Stage<Box<Routed>> for Fault<N> {
    type Failure = Error;

    async fn call(&self, routed: Box<Routed>) -> Result<Response, Error> {
        if let Some(fault) = &routed.route.fault {
            if let Some(delay) = fault.delay.filter(|d| d.share.takes(draw())) {
                routed.request.record.with(|r| {
                    r.told.delay_injected = true;
                    r.waited += delay.fixed;
                });
                tokio::time::sleep(delay.fixed).await;
            }
            if let Some(abort) = fault.abort.filter(|a| a.share.takes(draw())) {
                return aborted(abort, routed.request.fields.grpc);
            }
        }
        self.0.call(routed).await
    }
}

fn draw() -> u32 {
    rand::random_range(0..1_000_000)
}

/// The reason goes with the response, so that nobody takes it for the destination's.
fn aborted(abort: Abort, grpc: bool) -> Result<Response, Error> {
    let mut error = Error::new(Kind::FaultInjected);
    if let (true, Some(code)) = (grpc, abort.grpc_status.and_then(weir_config::model::GrpcCode::new)) {
        error = error.grpc_is(code);
    }
    Err(match StatusCode::from_u16(abort.status) {
        Ok(status) => error.status_is(status),
        Err(_) => error,
    })
}
