//! What is known of a connection before any request on it, and which requests are calls of gRPC.

use crate::{telemetry::Direction, tls, upstream::Client};
use http::{HeaderMap, HeaderValue, header};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use weir_config::model::SpiffeId;

/// What is known of the connection that a request came over.
#[derive(Debug)]
pub struct Connection {
    /// Which way.
    pub direction: Direction,
    /// The data thread that carries it.
    pub worker: usize,
    /// The other end.
    pub peer: SocketAddr,
    /// Who the other end proved to be.
    pub identity: Option<SpiffeId>,
    /// The identity as `x-forwarded-client-cert` tells it to the application, made once a connection.
    pub client_cert: Option<HeaderValue>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The server name it asked for.
    pub sni: Option<Arc<str>>,
    /// Where it was meant to go, if it was captured.
    pub captured: Option<Captured>,
    /// Whether a request on it has been answered.
    pub answered: Answered,
}

/// Whether a client has been answered before.
#[derive(Debug, Default)]
pub struct Answered(AtomicBool);

impl Answered {
    /// It is answered. On its data thread.
    pub fn set(&self) {
        if self.0.load(Ordering::Relaxed) {
            tls::answered_again();
        } else {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Where a captured connection was meant to go.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The address.
    pub address: SocketAddr,
    /// What the configuration calls it: `<address>_<port>`.
    pub name: Arc<str>,
}

impl Connection {
    /// Outbound: what the configuration is asked for, instead of the authority that a request names. The address decides
    /// where a captured connection goes, as it would without a sidecar; a `Host` leads no request elsewhere.
    pub fn destination(&self) -> Option<&str> {
        self.captured.as_ref().map(|captured| &*captured.name)
    }

    /// Inbound: the port of the application that is meant, where it is known.
    pub fn port(&self) -> Option<u16> {
        self.captured.as_ref().map(|captured| captured.address.port())
    }

    /// Whose requests come over it.
    pub fn client(&self) -> Client {
        let known = self.answered.0.load(Ordering::Relaxed);
        Client { worker: self.worker, id: std::ptr::from_ref(self).addr(), known }
    }

    /// Whether the application beside us is the caller.
    pub fn is_outbound(&self) -> bool {
        self.direction == Direction::Outbound
    }
}

/// Whether these are the headers of a gRPC call.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| {
        v.as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}
