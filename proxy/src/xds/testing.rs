//! Resources for tests.

use std::{sync::Arc, time::Duration};
use weir_config::{
    model::{
        Action, ApiListener, Authz, ChainMatch, Cluster, ConnectionLimits, Discovery, Domain, DownstreamTls, Endpoint,
        Endpoints, Forward, HeaderMutations, Health, HttpOptions, InboundChain, InboundListener, InboundTarget,
        Listener, LoadBalancing, Locality, PathMatch, Protocol, RetryBudget, Route, RouteConfig, RouteMatch,
        RouteSource, UpstreamTls, VirtualHost, WeightedCluster,
    },
    xds::Item,
};

pub(crate) fn listener(authority: &str, route: &str) -> Item {
    Item::Listener(Arc::new(Listener::Api(ApiListener {
        name: authority.into(),
        routes: RouteSource::Rds(route.into()),
        http: HttpOptions::default(),
        by_name: false,
    })))
}

pub(crate) fn routes(name: &str, clusters: &[&str]) -> RouteConfig {
    let clusters = clusters.iter().map(|name| WeightedCluster {
        name: (*name).into(),
        weight: 1,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
    });
    let forward = Forward {
        clusters: clusters.collect(),
        path: None,
        host: None,
        timeout: None,
        idle_timeout: None,
        retry: None,
        cap_grpc_timeout: false,
    };
    let route = Route {
        name: "default".into(),
        matches: RouteMatch { path: PathMatch::Prefix("/".into()), ..RouteMatch::default() },
        action: Action::Forward(forward),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        fault: None,
    };
    let host = VirtualHost { name: "all".into(), domains: vec![Domain::Any], routes: vec![route] };
    RouteConfig { name: name.into(), virtual_hosts: vec![host] }
}

pub(crate) fn route(name: &str, clusters: &[&str]) -> Item {
    Item::Route(Arc::new(routes(name, clusters)))
}

pub(crate) fn cluster(name: &str, connect: u64) -> Item {
    Item::Cluster(Arc::new(Cluster {
        name: name.into(),
        discovery: Discovery::Eds(name.into()),
        connect_timeout: Duration::from_secs(connect),
        load_balancing: LoadBalancing::default(),
        protocol: Protocol::Http1,
        tls: Some(UpstreamTls {
            sni: "8080.web.demo.svc.cluster.local".into(),
            identities: vec!["spiffe://weir.local/ns/demo/sa/web".parse().unwrap()],
        }),
        limits: ConnectionLimits::default(),
        outlier: None,
        retry_budget: RetryBudget::default(),
        panic_threshold_percent: 50,
        idle_timeout: None,
        max_connection_age: None,
    }))
}

pub(crate) fn endpoints(name: &str, port: u16) -> Item {
    let endpoint = Endpoint {
        address: ([127, 0, 0, 1], port).into(),
        weight: 1,
        health: Health::Healthy,
        workload: "demo/web-1".into(),
        mesh: true,
    };
    let locality = Locality { region: "r".into(), zone: "a".into(), priority: 0, weight: 1, endpoints: vec![endpoint] };
    Item::Endpoints(Arc::new(Endpoints { name: name.into(), localities: vec![locality] }))
}

pub(crate) fn inbound(cluster: &str) -> Item {
    let chain = InboundChain {
        name: "web.demo:8080".into(),
        matches: ChainMatch {
            server_names: vec!["8080.web.demo.svc.cluster.local".into()],
            destination_port: None,
            protocols: vec![],
        },
        tls: Some(DownstreamTls { require_client_certificate: true }),
        authz: Authz::default(),
        target: InboundTarget::Tcp { cluster: cluster.into(), idle_timeout: None },
    };
    Item::Listener(Arc::new(Listener::Inbound(InboundListener {
        name: "inbound/demo/web-1".into(),
        chains: vec![chain],
    })))
}
