//! Talking to the admin listeners of instances.

use super::Error;
use crate::peers::read;
use bytes::Bytes;
use http::{Request, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{net::SocketAddr, time::Duration};

const TIMEOUT: Duration = Duration::from_secs(3);
const LARGEST: usize = 16 * 1024 * 1024;

/// A client of admin listeners.
pub(super) struct Admin {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Admin {
    pub(super) fn new() -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http();
        Self { client }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, at: SocketAddr, path: &str) -> Result<T, Error> {
        let body = self.exchange(at, Request::get(format!("http://{at}{path}")).body(Full::default())).await?;
        serde_json::from_slice(&body)
            .map_err(|e| Error::Admin(format!("http://{at}{path} said what cannot be read: {e}")))
    }

    pub(super) async fn post<T: Serialize + Sync>(&self, at: SocketAddr, path: &str, body: &T) -> Result<(), Error> {
        let body = serde_json::to_vec(body).map_err(|e| Error::Admin(e.to_string()))?;
        let request = Request::post(format!("http://{at}{path}")).header(CONTENT_TYPE, "application/json");
        self.exchange(at, request.body(Full::from(body))).await.map(drop)
    }

    async fn exchange(&self, at: SocketAddr, request: http::Result<Request<Full<Bytes>>>) -> Result<Bytes, Error> {
        let failed = |e: String| Error::Admin(format!("the admin listener at {at}: {e}"));
        let request = request.map_err(|e| failed(e.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| failed(e.to_string()))?;
            let status = response.status();
            let body = read(response.into_body(), LARGEST).await.map_err(failed)?;
            if status.is_success() {
                return Ok(body);
            }
            Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(failed("no answer in time".into())))
    }
}
