//! One request and its response on one connection: what came of it, and what becomes of the connection.

use crate::{
    body::{Body, Interim, ResponseBody},
    error::{Error, RetrySafety},
    http1::Spelling,
};
use http::{Request, Response};

/// What is sent. In a box: it goes through many hands, and each one's future would have room for it, most of which stays
/// unused and keeps a processor's cache from holding what all requests under way need.
pub type Message = Box<Outgoing>;

/// A request on its way out.
pub struct Outgoing {
    /// Head and body.
    pub request: Request<Body>,
    /// Its head as the client wrote it, where the client spoke HTTP/1.
    pub spelling: Option<Spelling>,
    /// The way back for interim responses, where the client can get them.
    pub interim: Option<Interim>,
}

/// What came of it.
pub struct Exchange {
    /// Headers have come; the body follows, and holds the connection it comes over until it has ended.
    pub response: Response<ResponseBody>,
    /// Whether the connection had carried a request before.
    pub reused: bool,
}

/// A request that got no response.
pub struct Unsent {
    /// Why.
    pub error: Error,
    /// The request itself, where not a byte of it had left.
    pub message: Option<Message>,
}

impl Unsent {
    pub(super) fn never_sent(error: Error, message: Message) -> Self {
        Self { error: error.retry_is(RetrySafety::NeverSent), message: Some(message) }
    }
}
