//! A plain HTTP client of the tests: no retries, no redirects, a pool that can be switched off.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// A response with its whole body.
pub type Answer = Response<Bytes>;

/// What a client sees instead of a response.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One connection that sends one request after the other.
pub struct Connection {
    http1: Option<hyper::client::conn::http1::SendRequest<Full<Bytes>>>,
    http2: Option<hyper::client::conn::http2::SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// HTTP/1.1 to an address.
    pub async fn http1(address: SocketAddr) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(Self { http1: Some(sender), http2: None })
    }

    /// HTTP/2 with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        Ok(Self { http1: None, http2: Some(sender) })
    }

    /// Whether it can send another request.
    pub fn is_usable(&self) -> bool {
        self.http1.as_ref().is_some_and(|s| !s.is_closed()) || self.http2.as_ref().is_some_and(|s| !s.is_closed())
    }

    /// Sends a request and reads its response to the end.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let response = match (&mut self.http1, &mut self.http2) {
            (Some(sender), _) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            (None, Some(sender)) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            (None, None) => return Err("no connection".into()),
        };
        let (parts, body) = response.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    }
}

/// A request for `host` (as an application would say it).
pub fn request(method: Method, host: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Full::new(body.into()))
        .expect("a valid request")
}

/// One `GET` on a connection of its own, within ten seconds.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> Result<Answer, Failure> {
    send(address, request(Method::GET, host, path, "")).await
}

/// One request on a connection of its own, within ten seconds.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    tokio::time::timeout(Duration::from_secs(10), async { Connection::http1(address).await?.send(request).await })
        .await?
}

/// The body of a `GET`, which must succeed.
pub async fn text(address: SocketAddr, host: &str, path: &str) -> String {
    let answer = get(address, host, path).await.unwrap_or_else(|e| panic!("{host}{path}: {e}"));
    assert_eq!(answer.status(), StatusCode::OK, "{host}{path}: {:?}", answer);
    String::from_utf8_lossy(answer.body()).into_owned()
}
