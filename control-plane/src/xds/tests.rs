//! The whole port, over real TLS on loopback: certificates, both protocols, who is let in, and what the fleet knows.

use super::server::{Options, Parts, start};
use crate::{
    ca::{
        Ca, Source,
        token::{Grant, Tokens},
    },
    fleet::Fleet,
    index::{World, follow},
    metrics::Metrics,
    store::{Batch, Memory, Store},
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request, Status, transport::Channel};
use weir_config::{
    model::Kind,
    resources::parse,
    xds::{
        ads::{
            AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, Node,
            invalid_argument, text_struct, type_url,
        },
        istio_ca::{IstioCertificateRequest, IstioCertificateServiceClient},
    },
};

const WAIT: Duration = Duration::from_secs(30);
const WEB: &str = "web.demo.svc.cluster.local:80";

struct Plane {
    store: Arc<Memory>,
    ca: Arc<Ca>,
    tokens: Arc<Tokens>,
    fleet: Arc<Fleet>,
    metrics: Metrics,
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Plane {
    async fn start() -> Self {
        let store = Arc::new(Memory::default());
        let ca = Ca::open(Source::Own, &*store, SystemTime::now()).unwrap();
        let tokens = Arc::new(Tokens::open(&*store).unwrap());
        let metrics = Metrics::default();
        let fleet = Fleet::new(metrics.clone());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (worlds, run) = follow(store.watch());
        tasks.spawn({
            let stop = stop.clone();
            async move { stop.run_until_cancelled(run).await }
        });
        let parts = Parts {
            worlds,
            ca: ca.clone(),
            tokens: tokens.clone(),
            reviews: None,
            fleet: fleet.clone(),
            metrics: metrics.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = start(listener, parts, &Options::default(), &tasks, &stop).unwrap();
        let plane = Self { store, ca, tokens, fleet, metrics, address, tasks, stop };
        let version = plane.apply(&[
            "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: demo}, \
              spec: {selector: {app: web}, ports: [{port: 80}]}}",
            &workload("web-1", "web", "127.0.0.1"),
            &workload("billing-1", "billing", "127.0.0.2"),
        ]);
        assert!(plane.fleet.wait(version, WAIT).await.is_some_and(|c| c.complete));
        plane
    }

    fn apply(&self, documents: &[&str]) -> u64 {
        self.store.apply(&Batch::put_all(parse("test.yaml", &documents.join("\n---\n")).unwrap())).unwrap();
        self.store.snapshot().version()
    }

    async fn connect(&self, identity: Option<&(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>) -> Channel {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.roots().borrow()[0].clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let address = self.address;
        let connect = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                let name = ServerName::try_from("weir-control-plane").map_err(std::io::Error::other)?;
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        Channel::from_static("http://weir-control-plane").connect_with_connector(connect).await.unwrap()
    }

    /// Joins with a token, and connects with the certificate.
    async fn join(&self, account: &str) -> Channel {
        let grant = Grant { namespace: "demo".into(), service_account: account.into(), workload: None };
        let (token, _) = self.tokens.create(&grant, WAIT, SystemTime::now()).unwrap();
        let identity = certificate(self.connect(None).await, Some(&token)).await.unwrap();
        self.connect(Some(&identity)).await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(WAIT, self.tasks.wait()).await.expect("all tasks end");
    }
}

fn workload(name: &str, account: &str, address: &str) -> String {
    format!(
        "{{apiVersion: weir.dev/v1alpha1, kind: Workload, metadata: {{name: {name}, namespace: demo, labels: {{app: {account}}}}}, \
         spec: {{address: {address}, serviceAccount: {account}, sidecar: {{}}}}}}"
    )
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

async fn certificate(channel: Channel, token: Option<&str>) -> Result<Identity, Status> {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let mut request = Request::new(IstioCertificateRequest { csr, validity_duration: 0, metadata: None });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner();
    let chain = vec![CertificateDer::from_pem_slice(answer.cert_chain[0].as_bytes()).unwrap()];
    Ok((chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap()))
}

fn node(id: &str) -> Node {
    let metadata = Some(text_struct([("weir.version", "0.1.0")]));
    Node { id: id.into(), cluster: "web".into(), metadata, ..Node::default() }
}

/// A delta client that acknowledges by hand.
struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: tonic::Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn open(channel: Channel, id: &str, kind: Kind, names: &[&str]) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        requests.send(DeltaDiscoveryRequest { node: Some(node(id)), ..subscribe(kind, names) }).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(WAIT, self.responses.message()).await.expect("a response");
        next?.ok_or_else(|| Status::cancelled("the stream has ended"))
    }

    async fn ack(&self, response: &DeltaDiscoveryResponse, refuse: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: refuse.map(invalid_argument),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }
}

fn subscribe(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url(kind).into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn a_sidecar_joins_subscribes_and_its_changes_are_followed() {
    let plane = Plane::start().await;
    let mut client =
        Client::open(plane.join("web").await, "demo/web-1", Kind::Endpoints, &[WEB, "ghost:1"]).await.unwrap();
    let first = client.next().await.unwrap();
    assert_eq!((first.resources[0].name.as_str(), &first.removed_resources[..]), (WEB, &["ghost:1".to_owned()][..]));
    client.ack(&first, None).await;
    let version = plane.apply(&[&workload("web-2", "web", "127.0.0.3")]);
    let second = client.next().await.unwrap();
    assert_eq!((second.resources.len(), second.system_version_info.as_str()), (1, version.to_string().as_str()));
    assert_ne!(second.resources[0].version, first.resources[0].version);
    let before = plane.fleet.wait(version, Duration::from_millis(50)).await.unwrap();
    assert_eq!((before.concerned, before.applied, before.complete), (1, 0, false));
    client.ack(&second, None).await;
    let after = plane.fleet.wait(version, WAIT).await.unwrap();
    assert_eq!((after.concerned, after.applied, after.refused, after.complete), (1, 1, 0, true));
    let status = &plane.fleet.proxies()[0];
    assert_eq!(
        (status.who.node.as_str(), status.who.version.as_str(), status.connected),
        ("demo/web-1", "0.1.0", true)
    );
    assert_eq!(status.who.identity, "spiffe://weir.local/ns/demo/sa/web");
    // What does not concern it is not sent and not waited for.
    let version = plane
        .apply(&["{apiVersion: v1, kind: Service, metadata: {name: x, namespace: demo}, spec: {ports: [{port: 1}]}}"]);
    let other = plane.fleet.wait(version, WAIT).await.unwrap();
    assert_eq!((other.concerned, other.complete), (0, true));
    // A refusal is known, with its reason.
    let version = plane.apply(&[&workload("web-3", "web", "127.0.0.4")]);
    let third = client.next().await.unwrap();
    client.ack(&third, Some("no such locality")).await;
    let refused = plane.fleet.wait(version, WAIT).await.unwrap();
    assert_eq!((refused.applied, refused.refused), (0, 1));
    let status = &plane.fleet.proxies()[0];
    let why: Vec<_> = status.refused().map(|(kind, name, why)| (kind, name.to_string(), why.to_string())).collect();
    assert_eq!(why, [(Kind::Endpoints, WEB.to_owned(), "no such locality".to_owned())]);
    assert_eq!(plane.metrics.nacks.with_label_values(&["endpoints"]).get(), 1);
    plane.stop().await;
}

#[tokio::test]
async fn the_trust_bundle_comes_over_ads() {
    let plane = Plane::start().await;
    let mut client = Client::open(plane.join("web").await, "demo/web-1", Kind::Secret, &["ROOTCA"]).await.unwrap();
    let answer = client.next().await.unwrap();
    let body = &answer.resources[0].resource.as_ref().unwrap().value;
    let decoded = weir_config::xds::decode(Kind::Secret, body).unwrap();
    let weir_config::xds::Item::Secret(bundle) = decoded.resource else { panic!("{decoded:?}") };
    assert_eq!(bundle.roots, [plane.ca.roots().borrow()[0].to_vec()]);
    plane.stop().await;
}

#[tokio::test]
async fn a_certificate_renews_itself_and_a_stranger_gets_none() {
    let plane = Plane::start().await;
    let channel = plane.join("web").await;
    let renewed = certificate(channel, None).await.unwrap();
    assert_eq!(crate::ca::spiffe_id(&renewed.0[0]).unwrap().as_str(), "spiffe://weir.local/ns/demo/sa/web");
    let stranger = certificate(plane.connect(None).await, None).await.unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let forged = certificate(plane.connect(None).await, Some("abc")).await.unwrap_err();
    assert_eq!(forged.code(), Code::Unauthenticated);
    let count = |reason| plane.metrics.refused.with_label_values(&[reason]).get();
    assert_eq!((count("no_proof"), count("token_invalid")), (1, 1));
    plane.stop().await;
}

#[tokio::test]
async fn only_the_workload_itself_may_subscribe() {
    let plane = Plane::start().await;
    let open = |channel, id| async move {
        match Client::open(channel, id, Kind::Cluster, &[WEB]).await {
            Ok(mut client) => client.next().await.map(|_| ()),
            Err(status) => Err(status),
        }
    };
    let code = |result: Result<(), Status>| result.unwrap_err().code();
    assert_eq!(code(open(plane.connect(None).await, "demo/web-1").await), Code::Unauthenticated);
    let web = plane.join("web").await;
    for (id, why) in [
        ("demo/billing-1", "may not act as"),
        ("demo/ghost", "there is no Workload"),
        ("web-1", "is not `<namespace>/<workload>`"),
    ] {
        let status = open(web.clone(), id).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains(why), "{status}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_workload_goes() {
    let plane = Plane::start().await;
    let mut client = Client::open(plane.join("web").await, "demo/web-1", Kind::Cluster, &[WEB]).await.unwrap();
    client.next().await.unwrap();
    let version = plane.apply(&[&workload("web-1", "other", "127.0.0.1")]);
    let status = loop {
        if let Err(status) = client.next().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(plane.fleet.wait(version, WAIT).await.unwrap().complete);
    assert!(!plane.fleet.proxies()[0].connected);
    plane.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_root_is_refused() {
    let plane = Plane::start().await;
    let other = Ca::open(Source::Own, &Memory::default(), SystemTime::now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let web = "spiffe://weir.local/ns/demo/sa/web".parse().unwrap();
    let issued = other.sign(&csr, &web, WAIT, SystemTime::now()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(issued.chain[0].as_bytes()).unwrap()];
    let identity = (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    let channel = plane.connect(Some(&identity)).await;
    let refused = match Client::open(channel, "demo/web-1", Kind::Cluster, &[WEB]).await {
        Ok(mut client) => client.next().await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    let failures = plane.metrics.handshakes.with_label_values(&["unknown_issuer"]);
    tokio::time::timeout(WAIT, async {
        while failures.get() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the reason is counted");
    plane.stop().await;
}

#[tokio::test]
async fn state_of_the_world_is_served_from_the_same_port() {
    let plane = Plane::start().await;
    let (requests, receiver) = mpsc::channel(16);
    let node = Node { id: "demo/web-1".into(), user_agent_name: "gRPC C-core".into(), ..Node::default() };
    let ask = |node, kind, names: &[&str]| DiscoveryRequest {
        node,
        type_url: type_url(kind).into(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..DiscoveryRequest::default()
    };
    requests.send(ask(Some(node), Kind::Listener, &["web:80"])).await.unwrap();
    requests.send(ask(None, Kind::Route, &[WEB])).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(plane.join("web").await);
    let mut responses = client.stream_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for kind in [Kind::Listener, Kind::Route] {
        let response = tokio::time::timeout(WAIT, responses.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((response.type_url.as_str(), response.resources.len()), (type_url(kind), 1));
    }
    assert_eq!(plane.fleet.proxies()[0].who.protocol, "sotw");
    plane.stop().await;
}

#[tokio::test]
async fn a_client_that_asks_for_too_much_is_cut_off() {
    let plane = Plane::start().await;
    let names: Vec<String> = (0..20_001).map(|i| format!("s{i}:1")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let result = match Client::open(plane.join("web").await, "demo/web-1", Kind::Cluster, &names).await {
        Ok(mut client) => client.next().await.map(|_| ()),
        Err(status) => Err(status),
    };
    assert_eq!(result.unwrap_err().code(), Code::ResourceExhausted);
    plane.stop().await;
}

#[test]
fn the_same_resource_is_made_once_for_all_nodes() {
    use super::{machine::View as _, view::Catalog};
    use crate::compile::{Class, Node};
    let store = Memory::default();
    let documents =
        "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: demo}, spec: {ports: [{port: 80}]}}";
    store.apply(&Batch::put_all(parse("test.yaml", documents).unwrap())).unwrap();
    let ca = Ca::open(Source::Own, &store, SystemTime::now()).unwrap();
    let (_sender, worlds) = tokio::sync::watch::channel(Arc::new(World::build(store.snapshot(), &World::default())));
    let leaving = tokio::sync::watch::channel(Arc::default()).1;
    let (catalog, _follow) = Catalog::follow(worlds, leaving, &ca, Metrics::default(), |_| {});
    let generation = catalog.watch().borrow().clone();
    let view = |namespace: &str, workload: &str| {
        generation.of(Node { namespace: namespace.into(), workload: workload.into(), class: Class::Sidecar })
    };
    let (a, b, c) = (view("demo", "a"), view("demo", "b"), view("prod", "c"));
    let get = |view: &super::view::NodeView, kind, name: &str| view.resource(kind, name);
    let same = |x: &Arc<_>, y: &Arc<_>| Arc::ptr_eq(x, y);
    let listener = get(&a, Kind::Listener, "web:80").unwrap();
    assert!(same(&listener, &get(&b, Kind::Listener, "web:80").unwrap()));
    assert!(get(&c, Kind::Listener, "web:80").is_none(), "short names are relative to the namespace");
    assert_eq!(listener.refs, [(Kind::Route, WEB.into())]);
    let cluster = get(&a, Kind::Cluster, WEB).unwrap();
    assert!(same(&cluster, &get(&c, Kind::Cluster, WEB).unwrap()));
    assert_eq!(cluster.refs, [(Kind::Endpoints, WEB.into())]);
    assert_eq!(get(&a, Kind::Route, WEB).unwrap().refs, [(Kind::Cluster, WEB.into())]);
}
