//! How an application calls the others: the same code with and without the mesh; only the address differs.
//!
//! With the mesh, every call goes to the sidecar beside the application, which knows from the authority
//! (`catalog:9080`) where it should go. Without it, instances are taken in turn, as a plain client library does.
//! Timeouts are those an ordinary application has; there are no retries here.

use crate::{
    platform,
    stats::{Timeline, unix_seconds},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::HOST, uri::PathAndQuery};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::transport::{Channel, Endpoint};

/// How long an HTTP call may take: what applications commonly set, if they set anything.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Answers that are read whole.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// Where the other services are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Behind the sidecar that listens here.
    Mesh(SocketAddr),
    /// At the addresses of their instances.
    Direct(BTreeMap<String, Vec<SocketAddr>>),
}

/// Why a list of peers cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not of the form `service=address,address;service=address`")]
pub struct PeersError(String);

impl Peers {
    /// Reads `catalog=127.0.0.1:1,127.0.0.1:2;video=127.0.0.1:3`.
    pub fn parse_direct(text: &str) -> Result<Self, PeersError> {
        let wrong = |part: &str| PeersError(part.to_owned());
        let mut all = BTreeMap::new();
        for part in text.split(';').filter(|p| !p.is_empty()) {
            let (name, addresses) = part.split_once('=').ok_or_else(|| wrong(part))?;
            let addresses: Result<Vec<SocketAddr>, _> = addresses.split(',').map(str::parse).collect();
            all.insert(name.to_owned(), addresses.map_err(|_| wrong(part))?);
        }
        Ok(Self::Direct(all))
    }

    /// The form that [`Self::parse_direct`] reads.
    pub fn format_direct(all: &BTreeMap<String, Vec<SocketAddr>>) -> String {
        let one = |(name, addresses): (&String, &Vec<SocketAddr>)| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{name}={}", addresses.join(","))
        };
        all.iter().map(one).collect::<Vec<_>>().join(";")
    }
}

/// Why a call had no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody is known under the name.
    #[error("{0} is not known")]
    Unknown(String),
    /// Not in time.
    #[error("{0} did not answer in time")]
    Timeout(String),
    /// The connection failed.
    #[error("{0} could not be reached: {1}")]
    Unreachable(String, String),
    /// It answered with an error.
    #[error("{0} answered {1}")]
    Status(String, StatusCode),
    /// What it answered makes no sense.
    #[error("{0} answered what cannot be read: {1}")]
    Unreadable(String, String),
}

/// The calls of one application; clones share connections.
#[derive(Clone)]
pub struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    services: Arc<BTreeMap<String, Destination>>,
    timeline: Arc<Timeline>,
}

/// A service as it is called: one address behind a sidecar, or all of its instances.
struct Destination {
    name: String,
    authority: HeaderValue,
    addresses: Vec<SocketAddr>,
    channels: Vec<Channel>,
    turn: AtomicUsize,
}

impl Destination {
    fn new(service: &platform::Service, peers: &Peers) -> Option<Self> {
        let authority = HeaderValue::try_from(service.authority()).ok()?;
        let addresses = match peers {
            Peers::Mesh(sidecar) => vec![*sidecar],
            Peers::Direct(all) => all.get(service.name).cloned().unwrap_or_default(),
        };
        let channels = addresses.iter().filter_map(|a| channel(service, *a)).collect();
        Some(Self { name: service.name.into(), authority, addresses, channels, turn: AtomicUsize::new(0) })
    }

    fn next<T: Clone>(&self, of: &[T]) -> Result<T, CallError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let one = turn.checked_rem(of.len()).and_then(|i| of.get(i));
        one.cloned().ok_or_else(|| CallError::Unknown(self.name.clone()))
    }
}

/// Connects when first used, and again when the connection is lost. Must be made inside a runtime.
fn channel(service: &platform::Service, address: SocketAddr) -> Option<Channel> {
    if service.protocol != platform::Protocol::Grpc {
        return None;
    }
    let origin = Uri::try_from(format!("http://{}", service.authority())).ok()?;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    Some(endpoint.origin(origin).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy())
}

impl Client {
    /// A client of all services; what becomes of calls is recorded as `call:<service>`.
    pub fn new(peers: Peers, timeline: Arc<Timeline>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        let services = platform::SERVICES.iter().filter_map(|s| Some((s.name.into(), Destination::new(s, &peers)?)));
        Self { http, services: Arc::new(services.collect()), timeline }
    }

    /// Sends a request (its URI is a path) and waits for the head of the answer, whatever its status.
    pub async fn send(
        &self,
        service: &str,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, CallError> {
        let (second, start) = (unix_seconds(), Instant::now());
        let result = self.attempt(service, request, timeout).await;
        let ok = result.as_ref().is_ok_and(|r| !r.status().is_server_error());
        self.timeline.record(second, &format!("call:{service}"), ok, start.elapsed());
        result
    }

    /// As [`Self::send`], and reads the answer whole as JSON; an error status is an error.
    pub async fn json<T: DeserializeOwned>(&self, service: &str, request: Request<Bytes>) -> Result<T, CallError> {
        let response = self.send(service, request, HTTP_TIMEOUT).await?;
        if !response.status().is_success() {
            return Err(CallError::Status(service.into(), response.status()));
        }
        let unreadable = |e: String| CallError::Unreadable(service.into(), e);
        let body = tokio::time::timeout(HTTP_TIMEOUT, read(response.into_body(), LARGEST_ANSWER))
            .await
            .map_err(|_| CallError::Timeout(service.into()))?
            .map_err(unreadable)?;
        serde_json::from_slice(&body).map_err(|e| unreadable(e.to_string()))
    }

    /// A gRPC call with one message each way; the timeout travels as `grpc-timeout`.
    pub async fn grpc<Q, A>(
        &self,
        service: &str,
        path: &'static str,
        message: Q,
        timeout: Duration,
    ) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let (second, start) = (unix_seconds(), Instant::now());
        let call = self.unary(service, path, message, timeout);
        let result = tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded(format!("{service} did not answer in time"))));
        self.timeline.record(second, &format!("call:{service}"), result.is_ok(), start.elapsed());
        result
    }

    async fn attempt(
        &self,
        service: &str,
        mut request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, CallError> {
        let unreachable = |e: &dyn std::error::Error| CallError::Unreachable(service.into(), chain(e));
        let destination = self.destination(service)?;
        let address = destination.next(&destination.addresses)?;
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        *request.uri_mut() = Uri::try_from(format!("http://{address}{path}")).map_err(|e| unreachable(&e))?;
        request.headers_mut().insert(HOST, destination.authority.clone());
        match tokio::time::timeout(timeout, self.http.request(request.map(Full::new))).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) => Err(unreachable(&e)),
            Err(_) => Err(CallError::Timeout(service.into())),
        }
    }

    async fn unary<Q, A>(
        &self,
        service: &str,
        path: &'static str,
        message: Q,
        timeout: Duration,
    ) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let unavailable = |e: CallError| tonic::Status::unavailable(e.to_string());
        let destination = self.destination(service).map_err(unavailable)?;
        let channel = destination.next(&destination.channels).map_err(unavailable)?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|e| tonic::Status::unavailable(chain(&e)))?;
        let mut request = tonic::Request::new(message);
        request.set_timeout(timeout);
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        Ok(grpc.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    fn destination(&self, service: &str) -> Result<&Destination, CallError> {
        self.services.get(service).ok_or_else(|| CallError::Unknown(service.into()))
    }
}

/// Reads a body of at most `largest` bytes whole.
pub async fn read(body: Incoming, largest: usize) -> Result<Bytes, String> {
    Limited::new(body, largest).collect().await.map(http_body_util::Collected::to_bytes).map_err(|e| e.to_string())
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_peers_are_read_and_written() {
        let text = "catalog=127.0.0.1:1,127.0.0.1:2;video=127.0.0.1:3";
        let Ok(Peers::Direct(all)) = Peers::parse_direct(text) else { panic!("not read") };
        assert_eq!(all["catalog"].len(), 2);
        assert_eq!(Peers::format_direct(&all), text);
        assert!(Peers::parse_direct("catalog").is_err());
        assert!(Peers::parse_direct("catalog=here").is_err());
    }
}
