//! Interim responses (RFC 9110 §15.2) to one request over HTTP/2.

use super::remove_forbidden;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// The way back to a client: it takes interim responses until the final one has been sent.
pub type Responder = Arc<Mutex<SendResponse<Bytes>>>;

/// Passes interim responses on.
#[derive(Clone)]
pub struct Interim(Arc<Inner>);

struct Inner {
    respond: Responder,
    /// The client still waits for `100 Continue`.
    continues: AtomicBool,
}

impl Interim {
    /// To whoever asked; `continues`: the request says that it waits for `100 Continue`.
    pub fn new(respond: Responder, continues: bool) -> Self {
        Self(Arc::new(Inner { respond, continues: AtomicBool::new(continues) }))
    }

    /// Passes one on, if the client may still get it.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE && !self.0.continues.swap(false, Relaxed) {
            // RFC 9110 §10.1.1: it was not asked for, or has been said.
            return;
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers.clone();
        remove_forbidden(response.headers_mut());
        // Refused where the final response has been sent, or the stream is over: then nobody waits for it.
        let _ = self.0.respond.lock().send_informational(response);
    }
}
