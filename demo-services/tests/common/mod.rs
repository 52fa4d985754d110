//! A platform inside the test: instances on free loopback ports, called directly.
#![allow(dead_code)]

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};
use weir_demo::{
    app::{Options, Running, start},
    peers::Peers,
    platform::SERVICES,
};

pub struct Platform {
    pub running: BTreeMap<String, Running>,
    pub peers: BTreeMap<String, Vec<SocketAddr>>,
}

impl Platform {
    /// One instance of each service; `web` is the last, and knows the others.
    pub async fn start(data: Option<PathBuf>) -> Self {
        let mut platform = Self { running: BTreeMap::new(), peers: BTreeMap::new() };
        for service in SERVICES.iter().rev() {
            let peers = Peers::Direct(platform.peers.clone());
            let running = instance(service.name, peers, data.clone()).await;
            platform.peers.insert(service.name.into(), vec![running.address]);
            platform.running.insert(service.name.into(), running);
        }
        platform
    }

    pub fn address(&self, service: &str) -> SocketAddr {
        self.running[service].address
    }

    pub fn admin(&self, service: &str) -> SocketAddr {
        self.running[service].admin.unwrap()
    }

    pub async fn fault(&self, service: &str, fault: &str) {
        let response = post(self.admin(service), "/__fault", fault, &[]).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
    }

    /// Whoever calls it now is refused.
    pub async fn stop(&mut self, service: &str) {
        self.running.remove(service).unwrap().stop().await;
    }
}

pub async fn instance(service: &str, peers: Peers, data: Option<PathBuf>) -> Running {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    start(Options { service: service.into(), listen: any, admin: Some(any), peers, data }).await.unwrap()
}

pub async fn exchange(request: Request<Full<bytes::Bytes>>) -> Response<bytes::Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

pub async fn get(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response<bytes::Bytes> {
    let request = headers.iter().fold(Request::get(format!("http://{at}{path}")), |r, (n, v)| r.header(*n, *v));
    exchange(request.body(Full::default()).unwrap()).await
}

pub async fn post(at: SocketAddr, path: &str, body: &str, headers: &[(&str, &str)]) -> Response<bytes::Bytes> {
    let request = Request::post(format!("http://{at}{path}")).header("content-type", "application/json");
    let request = headers.iter().fold(request, |r, (n, v)| r.header(*n, *v));
    exchange(request.body(Full::from(body.to_owned())).unwrap()).await
}

pub fn json(response: &Response<bytes::Bytes>) -> serde_json::Value {
    serde_json::from_slice(response.body()).unwrap()
}
