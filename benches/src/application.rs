//! The application behind the sidecars: as little work as possible, on a thread of its own.
//!
//! `/small` 128 bytes · `/medium` 64 KiB · `/large` 1 MiB · `/huge` 100 MiB · `/grpc` a gRPC-like message with trailers ·
//! `/stream` a hundred of them, one by one. HTTP/1.1 and HTTP/2 on one port.

use crate::scenario::MESSAGES;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{convert::Infallible, io, iter, net::SocketAddr, thread};
use tokio::{net::TcpListener, sync::oneshot};

static LARGE_BODY: [u8; 1024 * 1024] = [b'w'; 1024 * 1024];
/// Not compressed, 100 bytes long, and then the bytes.
static MESSAGE: [u8; 105] = {
    let mut message = [b'w'; 105];
    message[0] = 0;
    message[1] = 0;
    message[2] = 0;
    message[3] = 0;
    message[4] = 100;
    message
};

/// A running application, which ends when dropped.
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Application {
    /// Starts it on a free port of loopback.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("application".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = serve(listener) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, _stop: stop })
    }
}

/// The gRPC-like message, as the client sends it too.
pub fn message() -> Bytes {
    Bytes::from_static(&MESSAGE)
}

async fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        tcp.set_nodelay(true).ok();
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    match path.as_str() {
        "/medium" => Response::new(Full::new(Bytes::from_static(&LARGE_BODY[..64 * 1024])).boxed()),
        "/large" => Response::new(Full::new(Bytes::from_static(&LARGE_BODY)).boxed()),
        "/huge" => {
            let mut response = Response::new(parts(100, Bytes::from_static(&LARGE_BODY), None).boxed());
            response.headers_mut().insert("content-length", HeaderValue::from(100 * LARGE_BODY.len()));
            response
        }
        "/grpc" => grpc(parts(1, message(), Some(trailers())).boxed()),
        "/stream" => grpc(parts(MESSAGES, message(), Some(trailers())).boxed()),
        _ => Response::new(Full::new(Bytes::from_static(&LARGE_BODY[..128])).boxed()),
    }
}

fn grpc(body: BoxBody<Bytes, Infallible>) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// A body of so many equal parts, which come one by one.
fn parts(count: usize, part: Bytes, trailers: Option<HeaderMap>) -> impl Body<Data = Bytes, Error = Infallible> {
    let frames = iter::repeat_n(part, count).map(Frame::data).chain(trailers.map(Frame::trailers));
    StreamBody::new(stream::iter(frames).then(move |frame| async move {
        if count > 1 {
            // What is there is sent before the next part comes.
            tokio::task::yield_now().await;
        }
        Ok(frame)
    }))
}
