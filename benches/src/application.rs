//! The application behind the sidecars: as little work as possible, on a thread of its own.
//!
//! `/small` 128 bytes · `/large` 1 MiB · `/grpc` a gRPC-like message with trailers. HTTP/1.1 and HTTP/2 on one port.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{convert::Infallible, io, net::SocketAddr, thread};
use tokio::{net::TcpListener, sync::oneshot};

/// The size of the body of `/large`.
pub const LARGE: usize = 1024 * 1024;

static SMALL_BODY: [u8; 128] = [b'w'; 128];
static LARGE_BODY: [u8; LARGE] = [b'w'; LARGE];
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
        "/large" => Response::new(Full::new(Bytes::from_static(&LARGE_BODY)).boxed()),
        "/grpc" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(message()).with_trailers(async move { Some(Ok(trailers)) });
            let mut response = Response::new(BodyExt::boxed(body));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            response
        }
        _ => Response::new(Full::new(Bytes::from_static(&SMALL_BODY)).boxed()),
    }
}
