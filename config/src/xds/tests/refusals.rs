//! What is not supported is refused by name with the field's path; what another control plane leaves out has Envoy's
//! defaults.

use crate::model::*;
use crate::xds::wire::{ads, number, pack, pb};
use crate::xds::{Class, Item, Rejected, decode, encode, encode_cluster, encode_endpoints};
use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration};
use prost::Message;
use std::{sync::Arc, time::Duration};

fn refused<T: Message>(kind: Kind, message: &T) -> Rejected {
    decode(kind, &message.encode_to_vec()).expect_err("should be refused")
}

fn accepted<T: Message>(kind: Kind, message: &T) -> Item {
    let decoded = decode(kind, &message.encode_to_vec());
    decoded.unwrap_or_else(|e| panic!("{e}")).resource
}

fn routes(route: pb::route::Route) -> pb::route::RouteConfiguration {
    let host = pb::route::VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..Default::default()
    };
    pb::route::RouteConfiguration { name: "r".into(), virtual_hosts: vec![host], ..Default::default() }
}

fn to(action: pb::route::RouteAction) -> pb::route::Route {
    let path = pb::route::route_match::PathSpecifier::Prefix("/".into());
    let cluster = pb::route::route_action::ClusterSpecifier::Cluster("c".into());
    let action = pb::route::RouteAction { cluster_specifier: Some(cluster), ..action };
    pb::route::Route {
        r#match: Some(pb::route::RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: Some(pb::route::route::Action::Route(action)),
        ..Default::default()
    }
}

fn eds() -> pb::cluster::Cluster {
    use pb::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
    pb::cluster::Cluster {
        name: "c".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), service_name: String::new() }),
        ..Default::default()
    }
}

fn only_route(item: Item) -> Route {
    let Item::Route(config) = item else { panic!("not routes") };
    config.virtual_hosts[0].routes[0].clone()
}

#[test]
fn an_unsupported_field_is_named_with_its_path() {
    let mirror = pb::route::route_action::RequestMirrorPolicy { cluster: "m".into(), ..Default::default() };
    let action = pb::route::RouteAction { request_mirror_policies: vec![mirror], ..Default::default() };
    let rejected = refused(Kind::Route, &routes(to(action)));
    assert_eq!(rejected.name.as_deref(), Some("r"));
    assert_eq!(rejected.to_string(), "`r`: virtual_hosts[0].routes[0].route.request_mirror_policies: is not supported");
}

#[test]
fn a_cosmetic_field_is_noted() {
    let mut route = to(pb::route::RouteAction::default());
    route.stat_prefix = "s".into();
    let decoded = decode(Kind::Route, &routes(route).encode_to_vec()).unwrap();
    assert_eq!(decoded.notes.len(), 1);
    assert_eq!(decoded.notes[0].field, "virtual_hosts[0].routes[0].stat_prefix");
}

#[test]
fn the_name_is_known_even_where_the_rest_cannot_be_read() {
    // Field 1 is the name; field 2 announces more bytes than there are.
    let body = [0x0a, 1, b'x', 0x12, 0x7f];
    for kind in [Kind::Route, Kind::Listener] {
        let rejected = decode(kind, &body).unwrap_err();
        assert!(rejected.name.is_none() || rejected.name.as_deref() == Some("x"));
    }
    let wrong_type = [0x0a, 1, b'x', 0x12, 1, 0xff];
    assert_eq!(decode(Kind::Route, &wrong_type).unwrap_err().name.as_deref(), Some("x"));
}

#[test]
fn a_route_without_times_has_envoys() {
    let route = only_route(accepted(Kind::Route, &routes(to(pb::route::RouteAction::default()))));
    let Action::Forward(f) = route.action else { panic!("not forwarded") };
    assert_eq!((f.timeout, f.idle_timeout, f.cap_grpc_timeout), (Some(Duration::from_secs(15)), None, true));
}

#[test]
fn the_shorter_of_two_time_limits_holds() {
    let second = |seconds| Some(PbDuration { seconds, nanos: 0 });
    let action = pb::route::RouteAction {
        timeout: second(9),
        max_stream_duration: Some(pb::route::route_action::MaxStreamDuration {
            max_stream_duration: second(2),
            ..Default::default()
        }),
        ..Default::default()
    };
    let Action::Forward(f) = only_route(accepted(Kind::Route, &routes(to(action)))).action else { panic!() };
    assert_eq!(f.timeout, Some(Duration::from_secs(2)));
}

#[test]
fn headers_that_frame_a_message_are_refused_and_commands_too() {
    for (key, value) in
        [("host", "x"), (":path", "/"), ("content-length", "1"), ("x-peer", "%DOWNSTREAM_PEER_URI_SAN%")]
    {
        let header = pb::core::HeaderValue { key: key.into(), value: value.into(), raw_value: vec![] };
        let mut route = to(pb::route::RouteAction::default());
        route.request_headers_to_add = vec![pb::core::HeaderValueOption { header: Some(header), ..Default::default() }];
        let rejected = refused(Kind::Route, &routes(route));
        assert!(rejected.issues[0].field.contains("request_headers_to_add[0].header"), "{rejected}");
    }
}

#[test]
fn durations_beyond_reason_are_refused() {
    for (seconds, nanos) in [(-1, 0), (i64::MAX, 0), (0, -5), (0, 1_000_000_000)] {
        let action = pb::route::RouteAction { timeout: Some(PbDuration { seconds, nanos }), ..Default::default() };
        let rejected = refused(Kind::Route, &routes(to(action)));
        assert!(rejected.issues[0].field.ends_with("route.timeout"), "{rejected}");
    }
}

#[test]
fn weights_without_a_sum_are_refused() {
    let weight =
        |w| pb::route::weighted_cluster::ClusterWeight { name: "c".into(), weight: number(w), ..Default::default() };
    for weights in [vec![], vec![0, 0], vec![u32::MAX, 1]] {
        let clusters =
            pb::route::WeightedCluster { clusters: weights.iter().map(|w| weight(*w)).collect(), ..Default::default() };
        let mut route = to(pb::route::RouteAction::default());
        if let Some(pb::route::route::Action::Route(a)) = &mut route.action {
            a.cluster_specifier = Some(pb::route::route_action::ClusterSpecifier::WeightedClusters(clusters));
        }
        let rejected = refused(Kind::Route, &routes(route));
        assert!(rejected.issues[0].field.ends_with("weighted_clusters.clusters"), "{rejected}");
    }
}

#[test]
fn a_bare_cluster_of_another_control_plane_has_envoys_defaults() {
    let Item::Cluster(c) = accepted(Kind::Cluster, &eds()) else { panic!() };
    assert_eq!(c.discovery, Discovery::Eds("c".into()));
    assert_eq!((c.load_balancing.clone(), c.protocol), (LoadBalancing::RoundRobin, Protocol::Http1));
    assert_eq!((c.connect_timeout, c.panic_threshold_percent), (Duration::from_secs(5), 50));
    assert_eq!((c.limits.max_requests, c.limits.max_retries), (Some(1024), Some(3)));
    assert_eq!((c.tls.clone(), c.outlier.clone()), (None, None));
}

#[test]
fn unknown_balancing_is_passed_over_while_a_known_one_follows() {
    use pb::cluster::{LoadBalancingPolicy, load_balancing_policy::Policy};
    let policy = |url: &str, value| Policy {
        typed_extension_config: Some(pb::core::TypedExtensionConfig {
            name: "p".into(),
            typed_config: Some(Any { type_url: url.into(), value }),
        }),
    };
    let unknown = policy("type.googleapis.com/x.Y", vec![1, 2, 3]);
    let alone = LoadBalancingPolicy { policies: vec![unknown.clone()] };
    let rejected = refused(Kind::Cluster, &pb::cluster::Cluster { load_balancing_policy: Some(alone), ..eds() });
    assert_eq!(rejected.issues[0].field, "load_balancing_policy.policies");
    let least = pack(&pb::least_request::LeastRequest { choice_count: number(3), ..Default::default() });
    let both = LoadBalancingPolicy { policies: vec![unknown, policy(&least.type_url, least.value)] };
    let cluster = pb::cluster::Cluster { load_balancing_policy: Some(both), ..eds() };
    let Item::Cluster(c) = accepted(Kind::Cluster, &cluster) else { panic!() };
    assert_eq!(c.load_balancing, LoadBalancing::LeastRequest { choices: 3 });
}

#[test]
fn tls_that_takes_any_identity_is_refused() {
    let named = |name: &str| pb::tls::SdsSecretConfig { name: name.into(), sds_config: Some(ads()) };
    let context = pb::tls::UpstreamTlsContext {
        sni: "s".into(),
        common_tls_context: Some(pb::tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![named("default")],
            validation_context_type: Some(
                pb::tls::common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(named("ROOTCA")),
            ),
            ..Default::default()
        }),
        ..Default::default()
    };
    let socket = pb::core::TransportSocket {
        name: "tls".into(),
        config_type: Some(pb::core::transport_socket::ConfigType::TypedConfig(pack(&context))),
    };
    let rejected = refused(Kind::Cluster, &pb::cluster::Cluster { transport_socket: Some(socket), ..eds() });
    assert!(rejected.to_string().contains("match_typed_subject_alt_names"), "{rejected}");
}

fn endpoints(ports: &[u16]) -> Endpoints {
    let endpoint = |port: &u16| Endpoint {
        address: ([10, 0, 0, 1], *port).into(),
        weight: 1,
        health: Health::Healthy,
        workload: "demo/a".into(),
        mesh: true,
    };
    let locality = Locality {
        region: String::new(),
        zone: "a".into(),
        priority: 0,
        weight: 1,
        endpoints: ports.iter().map(endpoint).collect(),
    };
    Endpoints { name: "e".into(), localities: vec![locality] }
}

#[test]
fn endpoints_that_cannot_be_are_refused() {
    let twice = encode_endpoints(&endpoints(&[1, 1]), Class::Sidecar);
    assert!(decode(Kind::Endpoints, &twice).unwrap_err().to_string().contains("occurs twice"));
    let port_zero = encode_endpoints(&endpoints(&[0]), Class::Sidecar);
    assert!(decode(Kind::Endpoints, &port_zero).unwrap_err().issues[0].field.ends_with("endpoint.address"));
    let mut gap = endpoints(&[1]);
    gap.localities[0].priority = 1;
    assert!(decode(Kind::Endpoints, &encode_endpoints(&gap, Class::Sidecar)).is_err());
    let many: Vec<u16> = (1..=10_001).collect();
    let rejected = decode(Kind::Endpoints, &encode_endpoints(&endpoints(&many), Class::Sidecar)).unwrap_err();
    assert!(rejected.to_string().contains("the limit is 10000"), "{rejected}");
}

fn manager(filters: Vec<pb::hcm::HttpFilter>) -> pb::listener::Listener {
    let rds = pb::hcm::Rds { config_source: Some(ads()), route_config_name: "r".into() };
    let manager = pb::hcm::HttpConnectionManager {
        route_specifier: Some(pb::hcm::http_connection_manager::RouteSpecifier::Rds(rds)),
        http_filters: filters,
        ..Default::default()
    };
    let api_listener = pb::listener::ApiListener { api_listener: Some(pack(&manager)) };
    pb::listener::Listener { name: "l".into(), api_listener: Some(api_listener), ..Default::default() }
}

fn filter(config: Any, is_optional: bool) -> pb::hcm::HttpFilter {
    pb::hcm::HttpFilter {
        name: "f".into(),
        is_optional,
        disabled: false,
        config_type: Some(pb::hcm::http_filter::ConfigType::TypedConfig(config)),
    }
}

#[test]
fn filters_are_known_optional_or_refused_and_the_router_is_last() {
    let router = || filter(pack(&pb::router::Router::default()), false);
    let strange = |optional| filter(Any { type_url: "type.googleapis.com/x.Lua".into(), value: vec![] }, optional);
    accepted(Kind::Listener, &manager(vec![router()]));
    accepted(Kind::Listener, &manager(vec![strange(true), router()]));
    let rejected = refused(Kind::Listener, &manager(vec![strange(false), router()]));
    assert_eq!(rejected.issues[0].field, "api_listener.http_filters[0]");
    refused(Kind::Listener, &manager(vec![router(), strange(true)]));
    refused(Kind::Listener, &manager(vec![]));
}

#[test]
fn a_rule_that_is_not_understood_refuses_the_listener() {
    let inbound = |authz| {
        Item::Listener(Arc::new(Listener::Inbound(InboundListener {
            name: "inbound/demo/a".into(),
            chains: vec![InboundChain {
                name: "c".into(),
                matches: ChainMatch::default(),
                tls: Some(DownstreamTls { require_client_certificate: true }),
                authz,
                target: InboundTarget::Tcp { cluster: "inbound:1".into(), idle_timeout: None },
            }],
        })))
    };
    let rule = AuthzRule { methods: vec!["GET".into()], ..Default::default() };
    let deny = vec![AuthzPolicy { name: "demo/p".into(), rules: vec![rule] }];
    let body = encode(&inbound(Authz { deny, ..Default::default() }), Class::Sidecar);
    let mut listener = pb::listener::Listener::decode(&*body).unwrap();
    let Some(pb::listener::filter::ConfigType::TypedConfig(any)) =
        &mut listener.filter_chains[0].filters[0].config_type
    else {
        panic!("no filter")
    };
    let mut rbac = pb::network_rbac::Rbac::decode(any.value.as_slice()).unwrap();
    let policy = rbac.rules.as_mut().unwrap().policies.get_mut("demo/p#0").unwrap();
    policy.permissions[0].rule = Some(pb::rbac::permission::Rule::DestinationPort(80));
    *any = pack(&rbac);
    let rejected = refused(Kind::Listener, &listener);
    assert!(rejected.issues[0].field.contains("filters[0].rules.policies.demo/p#0"), "{rejected}");
}

#[test]
fn plain_text_is_never_a_default() {
    let mut e = endpoints(&[1, 2]);
    e.localities[0].endpoints[1].mesh = false;
    let mut sent = pb::endpoint::ClusterLoadAssignment::decode(&*encode_endpoints(&e, Class::Envoy)).unwrap();
    assert!(sent.endpoints[0].lb_endpoints[0].metadata.is_none());
    sent.endpoints[0].lb_endpoints[1].metadata = None;
    let Item::Endpoints(read) = accepted(Kind::Endpoints, &sent) else { panic!() };
    assert!(read.localities[0].endpoints[1].mesh, "what is forgotten must not become plain text");
}

#[test]
fn grpc_gets_no_transport_socket() {
    let Item::Cluster(c) = accepted(Kind::Cluster, &eds()) else { panic!() };
    let identities = vec!["spiffe://weir.local/ns/demo/sa/a".parse().unwrap()];
    let c = Cluster { tls: Some(UpstreamTls { sni: "s".into(), identities }), ..(*c).clone() };
    let of = |class| pb::cluster::Cluster::decode(&*encode_cluster(&c, class)).unwrap();
    assert!(of(Class::Grpc).transport_socket.is_none() && of(Class::Grpc).transport_socket_matches.is_empty());
    assert!(of(Class::Envoy).transport_socket.is_some());
}

#[test]
fn a_real_envoy_is_not_given_the_trust_domain_as_an_identity() {
    let bundle =
        TrustBundle { name: "ROOTCA".into(), trust_domain: "weir.local".parse().unwrap(), roots: vec![vec![0x30, 0]] };
    let body = encode(&Item::Secret(Arc::new(bundle)), Class::Envoy);
    let secret = pb::tls::Secret::decode(&*body).unwrap();
    let Some(pb::tls::secret::Type::ValidationContext(context)) = secret.r#type else { panic!() };
    assert!(context.match_typed_subject_alt_names.is_empty());
    assert!(refused(Kind::Secret, &pb::tls::Secret { name: "ROOTCA".into(), r#type: None }).name.is_some());
}
