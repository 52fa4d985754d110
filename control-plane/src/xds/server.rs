//! The port that sidecars connect to: xDS over ADS, and certificates, on TLS.

use super::{
    machine::Limits,
    stream::{Shared, run},
    view::Catalog,
    wire::{Delta, Sotw, Wire},
};
use crate::{
    ca::{Ca, Reviews, service::Certificates, token::Tokens},
    fleet::Fleet,
    index::World,
    metrics::Metrics,
    tls::{self, Peer},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, transport::server};
use weir_config::xds::{
    ads::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer, DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        DiscoveryRequest, DiscoveryResponse,
    },
    istio_ca::IstioCertificateServiceServer,
};

/// Responses that may wait for the network on one stream.
const OUTGOING: usize = 4;
/// The largest message of a client: 20,000 names and their versions.
const MAX_MESSAGE: usize = 4 << 20;
/// ADS uses one stream of a connection; certificates some for a moment.
const MAX_STREAMS: u32 = 32;
const MAX_HEADERS: u32 = 16 * 1024;

/// What the server stands on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The documents.
    pub worlds: watch::Receiver<Arc<World>>,
    /// Who signs.
    pub ca: Arc<Ca>,
    /// Who checks join tokens.
    pub tokens: Arc<Tokens>,
    /// Who checks tokens that are not ours, where there is one.
    pub reviews: Option<Arc<dyn Reviews>>,
    /// Who keeps the proxies' status.
    pub fleet: Arc<Fleet>,
    /// What is counted.
    pub metrics: Metrics,
}

/// How it is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// TLS.
    pub tls: tls::Options,
    /// What one stream may ask.
    pub limits: Limits,
    /// The life of workloads' certificates; `None`: as the `Mesh` document says.
    pub certificate_lifetime: Option<Duration>,
    /// A connection that says nothing for so long is asked whether it still lives.
    pub keepalive: Duration,
    /// And has to answer by then.
    pub keepalive_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: tls::Options::default(),
            limits: Limits::default(),
            certificate_lifetime: None,
            keepalive: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// Why it cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket.
    #[error("the xDS port: {0}")]
    Io(#[from] io::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Serves on a bound listener until `stop`; gives the address. All tasks are owned by `tasks`.
///
/// # Errors
/// No serving certificate can be made, or the socket is not usable.
pub fn start(
    listener: TcpListener,
    parts: Parts,
    options: &Options,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<SocketAddr, Error> {
    let address = listener.local_addr()?;
    let fleet = Arc::clone(&parts.fleet);
    let changed = move |version| fleet.changed(version);
    let (catalog, follow) =
        Catalog::follow(parts.worlds.clone(), parts.fleet.leaving(), &parts.ca, parts.metrics.clone(), changed);
    let shared = Shared {
        catalog,
        fleet: parts.fleet,
        metrics: parts.metrics.clone(),
        limits: options.limits,
        stop: stop.clone(),
    };
    let ads = AggregatedDiscoveryServiceServer::new(Ads { shared, tasks: tasks.clone() });
    let ads = ads.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(usize::MAX);
    let certificates = Certificates {
        ca: Arc::clone(&parts.ca),
        tokens: parts.tokens,
        reviews: parts.reviews,
        worlds: parts.worlds,
        lifetime: options.certificate_lifetime,
        metrics: parts.metrics.clone(),
    };
    let incoming = tls::incoming(listener, &parts.ca, &options.tls, &parts.metrics, tasks, stop)?;
    let server = server::Server::builder()
        .http2_keepalive_interval(Some(options.keepalive))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(20))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(ads)
        .add_service(IstioCertificateServiceServer::new(certificates))
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let stopped = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = follow => {}
            () = stopped.cancelled() => {}
        }
    });
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the xDS port has failed");
        }
    });
    Ok(address)
}

/// `AggregatedDiscoveryService`: each stream is a task of its own.
#[derive(Debug)]
struct Ads {
    shared: Shared,
    tasks: TaskTracker,
}

impl Ads {
    fn stream<W: Wire>(&self, request: Request<Streaming<W::In>>) -> Response<ReceiverStream<Result<W::Out, Status>>> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or(Peer { address: None, identity: None });
        let (sender, receiver) = mpsc::channel(OUTGOING);
        self.tasks.spawn(run::<W>(self.shared.clone(), peer, request.into_inner(), sender));
        Response::new(ReceiverStream::new(receiver))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(self.stream::<Sotw>(request))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(self.stream::<Delta>(request))
    }
}
