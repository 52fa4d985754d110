//! From the application to the mesh: an HTTP proxy (absolute form, `CONNECT`), or plain requests routed by `Host`.

use super::{
    detect::detect,
    http::{Answer, Answering, serve_in},
    tcp,
};
use crate::{
    body::Incoming,
    connection::Answered,
    drain,
    error::{Error, Kind},
    http1::{self, Spelling},
    record::Recorder,
    reply,
    request::{Connection, Fields, Request},
    stack,
    stage::Response,
    state::State,
    takeover::Takeover,
    telemetry::Direction,
    tunnel::Tunnel,
    upstream::Io,
};
use http::{Method, header::HOST};
use std::{future::ready, net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;

/// Serves the outbound side on all data threads.
#[derive(Clone)]
pub struct Outbound {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) state: Arc<State>,
    stack: stack::Outbound,
    pub(super) recorder: Recorder,
    pub(super) tunnel: Tunnel,
    pub(super) drain: drain::Watch,
}

impl Outbound {
    /// From the parts that all connections share.
    pub fn new(
        state: Arc<State>,
        stack: stack::Outbound,
        recorder: Recorder,
        tunnel: Tunnel,
        drain: drain::Watch,
    ) -> Self {
        Self { inner: Arc::new(Inner { state, stack, recorder, tunnel, drain }) }
    }

    /// Serves one connection of the application.
    pub async fn connection(self, worker: usize, tcp: TcpStream, peer: SocketAddr) {
        let mut io = Io::plain(tcp);
        let drain = self.inner.drain.at_random();
        // What stays is made before what comes and goes.
        let room = http1::Conn::vacant().shared();
        let connection = Arc::new(Connection {
            direction: Direction::Outbound,
            worker,
            peer,
            identity: None,
            client_cert: None,
            tls: false,
            sni: None,
            captured: None,
            answered: Answered::default(),
        });
        let Ok(Some((speaks, first))) = detect(&mut io, &drain).await else { return };
        serve_in(room, io, first, speaks, Caller { inner: self.inner, connection }, drain).await;
    }
}

/// One connection of the application.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) inner: Arc<Inner>,
    pub(super) connection: Arc<Connection>,
}

impl Answer for Caller {
    fn answer(&self, request: http::Request<Incoming>, spelling: Option<Spelling>) -> Answering<'_> {
        if request.method() == Method::CONNECT {
            return Box::pin(self.connect(request));
        }
        let fields = Fields::of(request.headers());
        let record = self.inner.recorder.begin(&request, fields.grpc, &self.connection);
        let snapshot = self.inner.state.load();
        let connection = self.connection.clone();
        match Request::admit(request, spelling, fields, connection, snapshot, record.clone()) {
            Ok(request) => self.inner.stack.call(request),
            Err(error) => Box::pin(ready(record.refused(&error, fields.grpc))),
        }
    }

    fn refuse(&self, error: &Error) -> Response {
        self.inner.recorder.begin(&http::Request::new(()), false, &self.connection).refused(error, false)
    }
}

impl Caller {
    /// `CONNECT` (RFC 9110 §9.3.6): a connection to the destination first, so that its failure can be told.
    async fn connect(&self, mut request: http::Request<Incoming>) -> Response {
        let record = self.inner.recorder.begin(&request, false, &self.connection);
        let Some(authority) = request.uri().authority().map(|a| a.as_str().to_ascii_lowercase()) else {
            return record.refused(&Kind::BadRequest.detail("CONNECT without an authority"), false);
        };
        request.headers_mut().remove(HOST);
        // Where it was captured, whoever is called there is asked to connect: what we carry are bytes to it.
        let asked = self.connection.destination().unwrap_or(&authority);
        let opened = tcp::open(&self.inner.state, asked, &record).await;
        match opened {
            Ok((upstream, idle)) => {
                let client = Takeover::of(&mut request);
                self.inner.tunnel.spawn(async move |counted| match client.taken().await {
                    Some(client) => {
                        crate::tunnel::join(client, upstream, idle, counted).await;
                    }
                    None => tracing::debug!("a CONNECT did not come about"),
                });
                record.answered(reply::status(http::StatusCode::OK))
            }
            Err(error) => record.refused(&error, false),
        }
    }
}
