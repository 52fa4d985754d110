//! Sees everything: what was asked, what became of it, how long it took; and turns every failure into a response that
//! says why. Outermost, so that nothing is answered unseen.

use crate::{
    error::Error,
    request::Request,
    stage::{Response, Stage},
};
use std::convert::Infallible;

/// Records a request to its very end.
pub struct Observe<N>(pub N);

impl<N: Stage<Box<Request>, Failure = Error>> Stage<Box<Request>> for Observe<N> {
    type Failure = Infallible;

    async fn call(&self, request: Box<Request>) -> Result<Response, Infallible> {
        let grpc = request.fields.grpc;
        // Dropped on the way, when the caller goes away before there is a response, it says so.
        let record = request.record.clone().watch();
        Ok(match self.0.call(request).await {
            Ok(response) => record.answered(response),
            Err(error) => record.refused(&error, grpc),
        })
    }
}
