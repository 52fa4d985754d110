//! What a kubelet may ask the application without an identity: exactly the probes of the pod, whatever the mesh and its
//! policies say of plain text.

use super::{
    Chains, Cluster, Forward, InboundChain, InboundService, Parts, Route, RouteAction, RouteTable, Target, build,
};
use crate::telemetry::{Direction, RouteLabels};
use http::{Method, Request, header};
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};
use weir_config::{
    bootstrap::Probe,
    model::{self, Discovery, LoadBalancing, Protocol, ResourceName, Resources},
};

/// The method and path of gRPC's health protocol.
const GRPC: (Method, &str) = (Method::POST, "/grpc.health.v1.Health/Check");
/// The longest that a kubelet may wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(300);

/// All probes, by port.
#[derive(Default)]
pub struct Probes {
    by_port: HashMap<u16, AtPort>,
}

/// The probes of one port.
#[derive(Default)]
pub struct AtPort {
    /// Methods and paths, with their queries. Few: a pod has three probes a container.
    asked: Vec<(Method, String)>,
    /// Whether to be connected to is enough.
    connected: bool,
    /// Where they go; `None`: nothing is asked there.
    chain: Option<Arc<InboundChain>>,
    chains: Option<Chains>,
}

impl Probes {
    /// Each port has a destination of its own, since a port that is only asked is none that a service leads to.
    pub(super) fn new(parts: &Parts, probes: &[Probe]) -> Self {
        let mut all = Self::default();
        for probe in probes {
            let at = all.by_port.entry(probe.port()).or_default();
            match probe {
                Probe::Http { path, .. } => at.asked.push((Method::GET, path.clone())),
                Probe::Grpc { .. } => at.asked.push((GRPC.0, GRPC.1.into())),
                Probe::Tcp { .. } => at.connected = true,
            }
        }
        for (port, at) in all.by_port.iter_mut().filter(|(_, at)| !at.asked.is_empty()) {
            let chain = chain(parts, *port);
            let mut chains = Chains::default();
            chains.set(chain.clone(), false);
            (at.chain, at.chains) = (Some(chain), Some(chains));
        }
        all
    }

    /// Those of a port.
    pub fn of(&self, port: u16) -> Option<&AtPort> {
        self.by_port.get(&port)
    }
}

impl AtPort {
    /// The chains for connections where nothing else is accepted.
    pub fn chains(&self) -> Option<&Chains> {
        self.chains.as_ref()
    }

    /// Whether somebody connects here to know that it can be done.
    pub fn is_connected_to(&self) -> bool {
        self.connected
    }

    /// Where a request in plain text goes: a question to the application, anything else where it would have gone, which is
    /// `otherwise`; `None`: nowhere.
    pub fn chain<B>(&self, request: &Request<B>, otherwise: Arc<InboundChain>) -> Option<Arc<InboundChain>> {
        let Some(own) = &self.chain else { return Some(otherwise) };
        if self.is_asked(request) {
            return Some(own.clone());
        }
        (!Arc::ptr_eq(own, &otherwise)).then_some(otherwise)
    }

    fn is_asked<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let known = self.asked.iter().any(|(method, asked)| method == request.method() && asked == path);
        // A question has no body, and leads to nothing else.
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
        let alone = !headers.contains_key(header::UPGRADE)
            && (*request.method() != Method::GET || (length && !headers.contains_key(header::TRANSFER_ENCODING)));
        known && alone
    }
}

/// To the application itself.
fn chain(parts: &Parts, port: u16) -> Arc<InboundChain> {
    let name: ResourceName = format!("probe:{port}").into();
    let labels = RouteLabels {
        direction: Direction::Inbound,
        workload: parts.workload.clone(),
        destination: name.clone(),
        route: "probe".into(),
        tls: false,
    };
    let target = Target {
        name: name.clone(),
        cluster: Some(cluster(parts, &name, port)),
        weight: 1,
        request_headers: model::HeaderMutations::default(),
        response_headers: model::HeaderMutations::default(),
        metrics: parts.metrics.route(labels),
    };
    let forward = Forward {
        targets: vec![Arc::new(target)],
        total: 1,
        path: None,
        host: None,
        timeout: Some(TIMEOUT),
        idle_timeout: None,
        retry: None,
        cap_grpc_timeout: true,
    };
    let route = Route {
        name: "probe".into(),
        matches: model::RouteMatch::default(),
        action: RouteAction::Forward(forward),
        request_headers: model::HeaderMutations::default(),
        response_headers: model::HeaderMutations::default(),
        fault: None,
    };
    let routes = Arc::new(RouteTable::new(name.clone(), vec![(vec![model::Domain::Any], vec![Arc::new(route)])]));
    let service = InboundService::Http { routes, http: model::HttpOptions::default() };
    Arc::new(InboundChain { name, tls: None, authz: model::Authz::default(), service })
}

fn cluster(parts: &Parts, name: &ResourceName, port: u16) -> Arc<Cluster> {
    let endpoint = model::Endpoint {
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        weight: 1,
        health: model::Health::Healthy,
        workload: parts.workload.clone(),
        mesh: false,
    };
    let (region, zone) = (String::new(), String::new());
    let locality = model::Locality { region, zone, priority: 0, weight: 1, endpoints: vec![endpoint] };
    let config = model::Cluster {
        name: name.clone(),
        discovery: Discovery::Static(model::Endpoints { name: name.clone(), localities: vec![locality] }),
        connect_timeout: Duration::from_secs(1),
        load_balancing: LoadBalancing::RoundRobin,
        // The kubelet's HTTP is 1.1, its gRPC is HTTP/2.
        protocol: Protocol::UseDownstream,
        tls: None,
        limits: model::ConnectionLimits::default(),
        outlier: None,
        retry_budget: model::RetryBudget::default(),
        panic_threshold_percent: 0,
        idle_timeout: None,
        max_connection_age: None,
    };
    build::cluster(parts, None, &Arc::new(config), &Resources::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_config::model::Authz;

    fn chain(name: &str) -> Arc<InboundChain> {
        let service = InboundService::Tcp { cluster: None, idle_timeout: None };
        Arc::new(InboundChain { name: name.into(), tls: None, authz: Authz::default(), service })
    }

    #[test]
    fn exactly_what_is_asked_passes() {
        let own = chain("own");
        let at = AtPort {
            asked: vec![(Method::GET, "/healthz?full=1".into()), (GRPC.0, GRPC.1.into())],
            chain: Some(own.clone()),
            ..AtPort::default()
        };
        let to = |method: &str, uri: &str, headers: &[(&str, &str)], otherwise: &Arc<InboundChain>| {
            let mut request = Request::builder().method(method).uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            at.chain(&request.body(()).unwrap(), otherwise.clone()).map(|chain| chain.name.to_string())
        };
        let passes = Some("own".to_owned());
        assert_eq!(to("GET", "/healthz?full=1", &[], &own), passes);
        assert_eq!(to("GET", "/healthz?full=1", &[("content-length", "0")], &own), passes);
        assert_eq!(to("POST", GRPC.1, &[], &own), passes);
        for (method, uri, headers) in [
            ("GET", "/healthz", &[][..]),
            ("GET", "/healthz?full=1&x=2", &[]),
            ("GET", "/healthz/?full=1", &[]),
            ("GET", "//healthz?full=1", &[]),
            ("POST", "/healthz?full=1", &[]),
            ("HEAD", "/healthz?full=1", &[]),
            ("GET", "/healthz?full=1", &[("content-length", "5")]),
            ("GET", "/healthz?full=1", &[("transfer-encoding", "chunked")]),
            ("GET", "/healthz?full=1", &[("upgrade", "websocket")]),
            ("GET", GRPC.1, &[]),
            ("POST", "/grpc.health.v1.Health/Watch", &[]),
        ] {
            assert_eq!(to(method, uri, headers, &own), None, "{method} {uri} {headers:?}");
            // Where plain text is served, it goes on as ever.
            let other = Some("other".to_owned());
            assert_eq!(to(method, uri, headers, &chain("other")), other, "{method} {uri}");
        }
        assert_eq!(to("GET", "/healthz?full=1", &[], &chain("other")), passes, "policies do not count for it");
    }
}
