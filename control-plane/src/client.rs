//! The client's end of the REST API, for the command line and `up`: one request, one connection, plain errors.

use crate::{api::types::Problem, failure::Failure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longer answers are not read.
const LONGEST_ANSWER: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the control plane is, and how to be let in.
#[derive(Debug, Clone)]
pub struct Client {
    /// `host:port`.
    address: String,
    token: Option<String>,
    timeout: Duration,
}

/// What is sent with a request.
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// Its media type.
    pub media_type: &'static str,
    /// It.
    pub bytes: Bytes,
}

impl Client {
    /// To the control plane at `host:port` (or `http://host:port`).
    ///
    /// # Errors
    /// The address cannot be one.
    pub fn new(address: &str, token: Option<String>) -> Result<Self, Failure> {
        let remedy = "write it as host:port, for example 127.0.0.1:15015 (--address or WEIR_ADDRESS)";
        let wrong = |what: &str| Failure::usage(format!("the control plane's address `{address}` {what}"), remedy);
        if address.starts_with("https://") {
            return Err(wrong("asks for https, which the REST API does not serve yet"));
        }
        let plain = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let authority: http::uri::Authority = plain.parse().map_err(|_| wrong("is not an address"))?;
        let address = if authority.port().is_some() { plain.to_owned() } else { format!("{plain}:15015") };
        Ok(Self { address, token: token.filter(|t| !t.is_empty()), timeout: Duration::from_secs(60) })
    }

    /// With another limit for a whole request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Reads.
    ///
    /// # Errors
    /// The control plane cannot be reached, or says no.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, &[], None).await
    }

    /// Any request; its answer must be a success.
    ///
    /// # Errors
    /// The control plane cannot be reached, or says no.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
        body: Option<Body>,
    ) -> Result<T, Failure> {
        let exchange = self.exchange(method, path, headers, body);
        let (status, bytes) = tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| self.unreachable(&format!("no answer within {:?}", self.timeout)))??;
        if !status.is_success() {
            return Err(Failure::refused(problem(status, &bytes)));
        }
        serde_json::from_slice(&bytes).map_err(|e| {
            Failure::failed(
                format!("the answer of {} was not understood: {e}", self.address),
                "is it a Weir control plane of this version? Compare `weir version`",
            )
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
        body: Option<Body>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.request(method, path, headers, body)?;
        let lost = |e: &dyn std::fmt::Display| self.unreachable(&e.to_string());
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address))
            .await
            .map_err(|_| lost(&"connecting took too long"))?
            .map_err(|e| lost(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(|e| lost(&e))?;
        let connection = tokio::spawn(connection);
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| lost(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
            Ok((status, body.map_err(|e| lost(&e))?.to_bytes()))
        }
        .await;
        connection.abort();
        answer
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
        body: Option<Body>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.unwrap_or_default();
        if !body.media_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, body.media_type);
        }
        request
            .body(Full::new(body.bytes))
            .map_err(|e| Failure::usage(format!("the request cannot be written: {e}"), "check names and the token"))
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::failed(
            format!("cannot reach the control plane at {}: {why}", self.address),
            "is it running? Start one with `weir up -f <folder>`, or say where it is with --address or WEIR_ADDRESS",
        )
    }
}

/// The problem in an answer, or one made from its status.
fn problem(status: StatusCode, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        title: status.canonical_reason().unwrap_or("error").into(),
        status: status.as_u16(),
        detail: format!(
            "the control plane answered {status}: {}",
            String::from_utf8_lossy(&body[..body.len().min(500)])
        ),
        ..Problem::default()
    })
}
