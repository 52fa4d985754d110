//! One instance of a service: its listener, the gate before it, and the admin listener beside it.

use crate::{
    fault::{Fault, Gate, pass},
    peers::{Client, Peers},
    services,
    stats::{Timeline, Window},
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use http::StatusCode;
use serde::Deserialize;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Bodies that a service reads whole.
const LARGEST_BODY: usize = 64 * 1024;
/// How long requests under way may take once the instance is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// How an instance is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which service: a name of [`crate::platform::SERVICES`].
    pub service: String,
    /// Where it takes requests.
    pub listen: SocketAddr,
    /// Where it takes faults and tells its numbers.
    pub admin: Option<SocketAddr>,
    /// How it reaches the others.
    pub peers: Peers,
    /// Where it keeps what must survive a restart.
    pub data: Option<PathBuf>,
}

/// What a service is built from.
pub struct Context {
    /// Calls to other services.
    pub client: Client,
    /// The instance's record.
    pub timeline: Arc<Timeline>,
    /// Where it keeps what must survive a restart.
    pub data: Option<PathBuf>,
    /// Ends background work.
    pub stop: CancellationToken,
}

/// What a service consists of.
pub struct Parts {
    /// What callers see.
    pub router: Router,
    /// What only the operator sees, beside the common admin pages.
    pub admin: Router,
}

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No such service.
    #[error("there is no service `{0}`; there are: {known}", known = crate::platform::SERVICES.map(|s| s.name).join(", "))]
    Unknown(String),
    /// A listener could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its data could not be read.
    #[error("cannot use its data: {0}")]
    Data(#[from] io::Error),
}

/// A started instance; stops when dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it takes requests.
    pub address: SocketAddr,
    /// Where its admin pages are.
    pub admin: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// Takes no new request, finishes those under way (for a short while), and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, all).await;
        self.tasks.abort_all();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts an instance and returns the addresses that it really has.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let timeline = Arc::new(Timeline::default());
    let stop = CancellationToken::new();
    let context = Context {
        client: Client::new(options.peers, timeline.clone()),
        timeline: timeline.clone(),
        data: options.data,
        stop: stop.clone(),
    };
    let parts = services::build(&options.service, context)?;
    let gate = Arc::new(Gate::new(timeline.clone()));
    let router = parts.router.layer(DefaultBodyLimit::max(LARGEST_BODY)).layer(from_fn_with_state(gate.clone(), pass));
    let mut tasks = JoinSet::new();
    let address = serve(options.listen, router, &stop, &mut tasks).await?;
    let admin = match options.admin {
        Some(at) => Some(serve(at, parts.admin.merge(common(gate, timeline)), &stop, &mut tasks).await?),
        None => None,
    };
    Ok(Running { address, admin, stop, tasks })
}

/// Serves a router (HTTP/1.1, and HTTP/2 by prior knowledge) until told to stop; returns the bound address.
pub async fn serve(
    at: SocketAddr,
    router: Router,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Listen { address: at, source };
    let listener = TcpListener::bind(at).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stop = stop.clone();
    tasks.spawn(async move {
        let listener = listener.tap_io(|io| {
            let _ = io.set_nodelay(true);
        });
        let _ = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    });
    Ok(address)
}

/// Seconds since the epoch; from the first inclusive to the last exclusive.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Span {
    from: u64,
    to: u64,
}

impl Default for Span {
    fn default() -> Self {
        Self { from: 0, to: u64::MAX }
    }
}

/// The page that tells a timeline's numbers: `GET /stats?from=&to=`.
pub fn stats(timeline: Arc<Timeline>) -> Router {
    let page = async |State(t): State<Arc<Timeline>>, Query(span): Query<Span>| -> Json<Window> {
        Json(t.window(span.from, span.to))
    };
    Router::new().route("/stats", get(page)).with_state(timeline)
}

fn common(gate: Arc<Gate>, timeline: Arc<Timeline>) -> Router {
    let show = async |State(gate): State<Arc<Gate>>| Json(gate.fault());
    let fault = Router::new().route("/__fault", get(show).post(set_fault)).with_state(gate);
    Router::new().route("/healthz", get(async || "ok\n")).merge(fault).merge(stats(timeline))
}

async fn set_fault(State(gate): State<Arc<Gate>>, Json(fault): Json<Fault>) -> Response {
    match gate.set(fault) {
        Ok(()) => Json(fault).into_response(),
        Err(e) => (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response(),
    }
}
