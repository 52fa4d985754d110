//! The way back to a client of HTTP/2, and interim responses (RFC 9110 §15.2) on it.

use super::remove_forbidden;
use bytes::Bytes;
use h2::{SendStream, server::SendResponse};
use http::{HeaderMap, Response, StatusCode};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

/// The way back to whoever asked.
#[derive(Clone)]
pub struct Interim(Arc<Way>);

struct Way {
    respond: Mutex<SendResponse<Bytes>>,
    /// The client still waits for `100 Continue`.
    continues: AtomicBool,
}

impl Interim {
    /// To whoever asked; `continues`: the request says that it waits for `100 Continue`.
    pub fn new(respond: SendResponse<Bytes>, continues: bool) -> Self {
        Self(Arc::new(Way { respond: Mutex::new(respond), continues: AtomicBool::new(continues) }))
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

    /// Ready when the client has taken its request back, or is gone.
    pub fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.respond.lock().poll_reset(cx).map(drop)
    }

    /// Sends the final response's head; `ends`: there is nothing behind it.
    ///
    /// # Errors
    /// The stream is over.
    pub fn respond(&self, head: Response<()>, ends: bool) -> Result<SendStream<Bytes>, h2::Error> {
        self.0.respond.lock().send_response(head, ends)
    }
}
