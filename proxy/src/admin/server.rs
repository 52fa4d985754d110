//! A small HTTP/1.1 server: pages without bodies in, texts out; few connections, short patience.

use crate::drain::Door;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// A connection that sends no request for so long is closed.
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_HEADERS: usize = 64;
const READ_BUFFER: usize = 16 * 1024;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// GET or POST; HEAD comes as GET.
    pub method: &'a Method,
    /// Without the query.
    pub path: &'a str,
    /// Without the question mark.
    pub query: Option<&'a str>,
    /// Whom the client thinks it talks to.
    pub host: Option<&'a str>,
    /// Set by browsers on requests that a page makes.
    pub origin: Option<&'a str>,
}

impl Ask<'_> {
    /// A value of the query, as it stands (none of ours needs escapes).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status.
    pub status: StatusCode,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

impl Page {
    /// Plain text, with a line end.
    pub fn text(status: StatusCode, text: impl std::fmt::Display) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{text}\n") }
    }

    /// A JSON document for people: indented.
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(body) => Self { status: StatusCode::OK, content_type: "application/json", body },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }

    /// There is no such page.
    pub fn not_found(known: &str) -> Self {
        Self::text(StatusCode::NOT_FOUND, format_args!("no such page; there are: {known}"))
    }
}

/// The pages of a server.
pub trait Pages: Send + Sync + 'static {
    /// Answers. Must not wait.
    fn answer(&self, ask: Ask<'_>) -> Page;
}

/// Serves until the sockets are another process's: these pages matter most while a process goes down.
pub async fn serve(listener: TcpListener, pages: Arc<impl Pages>, mut door: watch::Receiver<Door>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = loop {
            let now = *door.borrow_and_update();
            if now == Door::Gone {
                return;
            }
            tokio::select! {
                accepted = listener.accept(), if now == Door::Open => break accepted,
                changed = door.changed() => if changed.is_err() { return },
            }
        };
        match accepted {
            Ok((tcp, _)) => {
                let pages = pages.clone();
                tokio::spawn(async move {
                    connection(tcp, pages).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors: those who wait stay in the kernel's queue.
                tracing::debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, pages: Arc<impl Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &*pages);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_headers(MAX_HEADERS).max_buf_size(READ_BUFFER);
    if let Err(error) = server.serve_connection(TokioIo::new(tcp), service).await {
        tracing::debug!(%error, "an admin connection ended badly");
    }
}

fn respond(request: &Request<Incoming>, pages: &dyn Pages) -> Response<Full<Bytes>> {
    let header = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let page = pages.answer(Ask {
        method,
        path: request.uri().path(),
        query: request.uri().query(),
        host: header(header::HOST),
        origin: header(header::ORIGIN),
    });
    let mut response = Response::new(Full::from(page.body));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
