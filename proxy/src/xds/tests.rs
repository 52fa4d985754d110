//! Identity and configuration over real TLS and gRPC, from a control plane that can go away and come back.

use super::{Cache, Client, Sink, Status, testing::*};
use crate::{
    identity::{ControlPlane, Identity, Remote, Renewal, Roots, Store, Token, Wish as IdentityWish},
    telemetry::Metrics,
    tls::testing::{Authority, DOMAIN, Wish, id},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Streaming, codegen::async_trait};
use weir_config::{
    model::{Kind, ResourceName, Resources, TrustBundle},
    xds::{
        self, Class, Item,
        ads::{
            self, AggregatedDiscoveryService, AggregatedDiscoveryServiceServer, DeltaDiscoveryRequest,
            DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node, Resource,
        },
        istio_ca::{
            IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService, IstioCertificateServiceServer,
        },
    },
};

const F: &str = "api.demo.svc.cluster.local:80";
const TOKEN: &str = "join-me";

/// What all incarnations of the control plane share.
struct World {
    authority: Authority,
    items: Mutex<BTreeMap<(Kind, String), Item>>,
    /// Versions that a client said it held at the begin of a stream.
    initial: Mutex<BTreeMap<String, String>>,
    tokens_seen: Mutex<Vec<Option<String>>>,
}

#[derive(Clone)]
struct Plane(Arc<World>);

#[async_trait]
impl IstioCertificateService for Plane {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, tonic::Status> {
        let token = request.metadata().get("authorization").map(|v| v.to_str().unwrap().to_owned());
        self.0.tokens_seen.lock().push(token.clone());
        if token.as_deref() != Some("Bearer join-me") {
            return Err(tonic::Status::unauthenticated("who are you?"));
        }
        let request = rcgen::CertificateSigningRequestParams::from_pem(&request.get_ref().csr).unwrap();
        let leaf = self.0.authority.sign(&Wish::of(&id("web")), &request.public_key);
        let cert_chain = vec![pem(&leaf), pem(&self.0.authority.root)];
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

#[async_trait]
impl AggregatedDiscoveryService for Plane {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("delta only"))
    }

    /// As real ones do, it answers the call only when the first request has come.
    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, tonic::Status> {
        let mut requests = request.into_inner();
        let first = requests.next().await.unwrap()?;
        assert_eq!(first.node.as_ref().unwrap().id, "demo/web-1");
        let (send, answers) = mpsc::channel(64);
        let world = self.0.clone();
        tokio::spawn(async move {
            let mut next = Some(Ok(first));
            while let Some(Ok(request)) = next {
                if let Some(response) = world.answer(request) {
                    let _ = send.send(Ok(response)).await;
                }
                next = requests.next().await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

impl World {
    fn answer(&self, request: DeltaDiscoveryRequest) -> Option<DeltaDiscoveryResponse> {
        let kind = xds::kind_of(&request.type_url).unwrap();
        self.initial.lock().extend(request.initial_resource_versions);
        let mut response = DeltaDiscoveryResponse {
            type_url: request.type_url,
            nonce: "1".into(),
            ..DeltaDiscoveryResponse::default()
        };
        for name in request.resource_names_subscribe {
            match self.items.lock().get(&(kind, name.clone())) {
                Some(item) => response.resources.push(resource(item)),
                None => response.removed_resources.push(name),
            }
        }
        let empty = response.resources.is_empty() && response.removed_resources.is_empty();
        (!empty).then_some(response)
    }
}

fn resource(item: &Item) -> Resource {
    let body = xds::encode(item, Class::Sidecar);
    Resource {
        name: item.name().to_string(),
        version: xds::version_of(&body),
        resource: Some(ads::any(item.kind(), &body)),
        ..Resource::default()
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(der))
}

/// Serves at an address until aborted; connections end with it.
async fn control_plane(world: &Arc<World>, at: Option<SocketAddr>) -> (SocketAddr, JoinHandle<()>) {
    let (chain, key) = world.authority.issue(&Wish::control_plane());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.authority.root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key).into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(at.unwrap_or(([127, 0, 0, 1], 0).into())).await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = world.clone();
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, world) = (acceptor.clone(), world.clone());
            connections.spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let certified = tls.get_ref().1.peer_certificates().is_some();
                let mut routes = tonic::service::Routes::new(IstioCertificateServiceServer::new(Plane(world.clone())));
                if certified {
                    routes = routes.add_service(AggregatedDiscoveryServiceServer::new(Plane(world)));
                }
                let service = TowerToHyperService::new(routes);
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(tls), service)
                    .await;
            });
        }
    });
    (address, serving)
}

/// Keeps the last configuration.
struct Last(watch::Sender<(Resources, BTreeSet<ResourceName>)>);

impl Sink for Last {
    fn apply(&self, resources: &Resources, absent: &BTreeSet<ResourceName>) {
        self.0.send_replace((resources.clone(), absent.clone()));
    }

    fn idle(&self, _: Duration) -> Vec<ResourceName> {
        Vec::new()
    }
}

struct Sidecar {
    identity: Arc<Identity>,
    status: Arc<Status>,
    want: mpsc::Sender<ResourceName>,
    applied: watch::Receiver<(Resources, BTreeSet<ResourceName>)>,
    _tasks: JoinSet<()>,
}

fn sidecar(world: &World, address: impl std::fmt::Display, state: &std::path::Path) -> Sidecar {
    let identity = Identity::new();
    let control_plane = ControlPlane {
        address: address.to_string(),
        server_name: None,
        roots: Some(Roots::Pem(pem(&world.authority.root))),
        turn: Arc::default(),
    };
    let metrics = Metrics::new(100);
    let token = Some(Token::Text(zeroize::Zeroizing::new(TOKEN.into())));
    let renewal = Renewal {
        identity: identity.clone(),
        authority: Remote { control_plane: control_plane.clone(), identity: identity.clone(), token },
        store: Some(Store::new(state.join("identity.pem"))),
        wish: IdentityWish { life: None, domain: DOMAIN.parse().unwrap(), id: Some(id("web")) },
        metrics: metrics.clone(),
        now: SystemTime::now,
    };
    let (want, wanted) = mpsc::channel(16);
    let (apply, applied) = watch::channel(Default::default());
    let status = Arc::new(Status::default());
    let client = Client {
        control_plane,
        identity: identity.clone(),
        node: Node { id: "demo/web-1".into(), ..Node::default() },
        wanted,
        sink: Last(apply),
        cache: Some(Cache::new(state.join("config"), "demo/web-1")),
        status: status.clone(),
        metrics,
        idle: Duration::from_secs(600),
        stay: watch::channel(super::Stay::Here).1,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(renewal.run());
    tasks.spawn(client.run());
    Sidecar { identity, status, want, applied, _tasks: tasks }
}

fn world() -> Arc<World> {
    let authority = Authority::new("root");
    let bundle = TrustBundle {
        name: "ROOTCA".into(),
        trust_domain: DOMAIN.parse().unwrap(),
        roots: vec![authority.root.as_ref().to_vec()],
    };
    let items = [
        Item::Secret(Arc::new(bundle)),
        inbound("inbound:8080"),
        cluster("inbound:8080", 5),
        endpoints("inbound:8080", 8080),
        listener("api:80", F),
        route(F, &[F]),
        cluster(F, 5),
        endpoints(F, 1),
    ];
    let items = items.into_iter().map(|item| ((item.kind(), item.name().to_string()), item)).collect();
    Arc::new(World { authority, items: Mutex::new(items), initial: Mutex::default(), tokens_seen: Mutex::default() })
}

#[tokio::test]
async fn a_sidecar_joins_is_configured_on_demand_and_survives_its_control_plane() {
    let world = world();
    let state = tempfile::tempdir().unwrap();
    let (address, plane) = control_plane(&world, None).await;
    let mut first = sidecar(&world, address, state.path());

    first.status.configured().wait_for(|c| *c).await.unwrap();
    assert_eq!(first.identity.current().unwrap().leaf().id, id("web"));
    assert_eq!(*world.tokens_seen.lock(), [Some(format!("Bearer {TOKEN}"))]);
    assert!(first.applied.borrow().0.listeners.contains_key("inbound/demo/web-1"));
    assert!(first.applied.borrow().0.clusters.contains_key("inbound:8080"), "complete from the first");

    for authority in ["api:80", "nowhere:80"] {
        first.want.send(authority.into()).await.unwrap();
    }
    let done = first.applied.wait_for(|(r, absent)| r.listeners.contains_key("api:80") && absent.len() == 1);
    assert!(done.await.unwrap().0.endpoints.contains_key(F));

    // Away: everything stays, and what was held is told to its successor.
    plane.abort();
    let _ = plane.await;
    while first.status.is_connected() {
        tokio::task::yield_now().await;
    }
    assert!(first.applied.borrow().0.clusters.contains_key(F));
    world.items.lock().insert((Kind::Cluster, F.into()), cluster(F, 9));
    let (_, plane) = control_plane(&world, Some(address)).await;
    let changed = |r: &Resources| r.clusters.get(F).is_some_and(|c| c.connect_timeout == Duration::from_secs(9));
    first.applied.wait_for(|(r, _)| changed(r)).await.unwrap();
    assert!(world.initial.lock().contains_key("api:80"));

    // Kept on disk for a process that starts while nobody is there.
    let cache = Cache::new(state.path().join("config"), "demo/web-1");
    let kept = resource(&cluster(F, 9)).version;
    while !cache.load().iter().any(|raw| raw.version == kept) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(first);
    plane.abort();
    let _ = plane.await;
    let second = sidecar(&world, address, state.path());
    second.status.configured().wait_for(|c| *c).await.unwrap();
    assert!(second.identity.is_ready(SystemTime::now()));
    assert!(changed(&second.applied.borrow().0) && !second.status.is_connected());
    assert_eq!(world.tokens_seen.lock().len(), 1);
}

#[tokio::test]
async fn a_control_plane_of_another_root_is_not_talked_to() {
    let world = world();
    let state = tempfile::tempdir().unwrap();
    let (address, _plane) = control_plane(&world, None).await;
    let stranger = World {
        authority: Authority::new("other"),
        items: Mutex::default(),
        initial: Mutex::default(),
        tokens_seen: Mutex::default(),
    };
    let sidecar = sidecar(&stranger, address, state.path());
    while sidecar.identity.last_failure().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let why = sidecar.identity.last_failure().unwrap();
    assert!(why.contains("UnknownIssuer") || why.contains("certificate"), "{why}");
    assert!(world.tokens_seen.lock().is_empty(), "the token was not shown to a stranger");
}

#[tokio::test]
async fn of_several_replicas_the_one_that_answers_is_taken_and_the_next_when_it_is_gone() {
    let world = world();
    let state = tempfile::tempdir().unwrap();
    let (first, plane) = control_plane(&world, None).await;
    // A port that was bound and is not: it refuses at once.
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (second, _other) = control_plane(&world, None).await;
    let sidecar = sidecar(&world, format!("{dead}, {first},{second}"), state.path());
    sidecar.status.configured().wait_for(|c| *c).await.unwrap();
    let before = sidecar.status.connections();
    plane.abort();
    let _ = plane.await;
    while sidecar.status.connections() == before || !sidecar.status.is_connected() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
