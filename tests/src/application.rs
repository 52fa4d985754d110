//! An application of the tests: it answers what it is asked to, and counts.
//!
//! `/status/<n>` that status · `/slow/<ms>` after so long · `/bytes/<n>` a body of so many bytes · `/upgrade/0` becomes a
//! stream that echoes · anything else echoes method, path, headers and body. It speaks HTTP/1.1 and HTTP/2 (prior knowledge) on one port.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;

/// A running application.
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it was asked for.
    pub counts: Arc<Counts>,
    task: tokio::task::JoinHandle<()>,
}

/// What an application counts, and how it is made to fail.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests.
    pub requests: AtomicU64,
    /// Answers everything with this status, unless 0.
    pub fail_with: AtomicU16,
    /// Answers everything so much later, in milliseconds.
    pub delay_ms: AtomicU64,
}

impl Application {
    /// Starts one on a free port.
    pub async fn start(name: &str) -> Self {
        Self::on(name, TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    /// Starts one on a listening socket.
    pub fn on(name: &str, listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let counts = Arc::new(Counts::default());
        let (name, counted): (Arc<str>, _) = (name.into(), counts.clone());
        let task = tokio::spawn(async move {
            // Connections end with the application.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tcp.set_nodelay(true).ok();
                let (name, counts) = (name.clone(), counted.clone());
                let service = service_fn(move |request| {
                    let (name, counts) = (name.clone(), counts.clone());
                    async move { Ok::<_, Infallible>(answer(&name, &counts, request).await) }
                });
                connections.spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(tcp), service)
                        .await;
                });
            }
        });
        Self { address, counts, task }
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// Ends it, its connections included.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(name: &str, counts: &Counts, request: Request<Incoming>) -> Response<Body> {
    counts.requests.fetch_add(1, Ordering::Relaxed);
    let delay = counts.delay_ms.load(Ordering::Relaxed);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let failing = counts.fail_with.load(Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    let (what, number) = match path.trim_start_matches('/').split_once('/') {
        Some((what, number)) => (what, number.parse::<u64>().unwrap_or(0)),
        None => ("", 0),
    };
    let mut response = match what {
        _ if failing != 0 => status(failing),
        "status" => status(number as u16),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            full(name.to_owned())
        }
        "bytes" => streamed(number),
        "count" => count(request).await,
        "upgrade" => upgrade(request),
        _ => echo(request).await,
    };
    response.headers_mut().insert("x-served-by", name.parse().expect("a header value"));
    response
}

fn status(code: u16) -> Response<Body> {
    let mut response = full(format!("status {code}"));
    *response.status_mut() = code.try_into().expect("a status");
    response
}

fn full(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed())
}

/// `n` zero bytes in pieces of 64 KiB, never all in memory.
fn streamed(n: u64) -> Response<Body> {
    const PIECE: u64 = 64 * 1024;
    let piece = Bytes::from_static(&[0; PIECE as usize]);
    let pieces = futures::stream::iter(0..n.div_ceil(PIECE)).map(move |i| {
        let size = PIECE.min(n - i * PIECE);
        Ok(Frame::data(piece.slice(..size as usize)))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(pieces)));
    response.headers_mut().insert("content-length", n.into());
    response
}

/// Changes to what the client asked for, and echoes from then on.
fn upgrade(mut request: Request<Incoming>) -> Response<Body> {
    let protocol = request.headers().get("upgrade").cloned().unwrap_or_else(|| "none".parse().expect("a value"));
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
        }
    });
    let mut response = status(101);
    *response.body_mut() = full("").into_body();
    response.headers_mut().insert("connection", "upgrade".parse().expect("a value"));
    response.headers_mut().insert("upgrade", protocol);
    response
}

/// Reads a body of any size and says how long it was.
async fn count(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |d| d.len() as u64);
    }
    full(read.to_string())
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut text = BytesMut::from(format!("{} {}\n", parts.method, parts.uri).as_bytes());
    for (name, value) in &parts.headers {
        text.extend_from_slice(format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())).as_bytes());
    }
    text.extend_from_slice(b"\n");
    if let Ok(body) = body.collect().await {
        text.extend_from_slice(&body.to_bytes());
    }
    full(text.freeze())
}
