//! A stage of a request's way: a tuple struct around what comes next, with one `call`.
//!
//! Stages are put together in `stack/`, each listed once, outermost first. They are plain generics: the compiler makes
//! one future of a whole stack, which is boxed once, at the seam to hyper.

use crate::body::ResponseBody;
use std::future::Future;

/// A response on its way back.
pub type Response = http::Response<ResponseBody>;

/// One stage. `In` is what it works on: `Request` before routing, `Routed` after it, `Attempt` inside a retry; so a stage
/// that needs a route cannot stand before routing.
pub trait Stage<In>: Send + Sync {
    /// What comes back when there is no response. An attempt also gives the request back where not a byte of it has left.
    type Failure;

    /// Does its part, and calls what comes next.
    fn call(&self, input: In) -> impl Future<Output = Result<Response, Self::Failure>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Error,
        request::AttemptFailed,
        upstream::{Exchange, Unsent},
    };

    /// It goes by value through some fifteen hands. What is no longer than 128 bytes is moved in place; for more the compiler
    /// calls `memcpy`.
    #[test]
    fn a_response_is_moved_in_place() {
        let sizes = [
            size_of::<Result<Response, Error>>(),
            size_of::<Result<Response, AttemptFailed>>(),
            size_of::<Result<Exchange, Unsent>>(),
        ];
        assert!(sizes.iter().all(|size| *size <= 128), "{sizes:?} bytes");
    }
}
