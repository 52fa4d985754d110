//! A real Envoy takes what is encoded for it. Needs its binary: `tests/setup` installs it, or `ENVOY` names one. Without,
//! these tests say that they are skipped; with `WEIR_NO_SKIP` they fail.

use super::values;
use crate::model::{ApiListener, HttpOptions, Listener, RouteSource};
use crate::xds::wire::{pack, pb};
use crate::xds::{Class, encode_cluster, encode_endpoints, encode_listener, encode_route, endpoints};
use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap};
use envoy_types::pb::google::protobuf::{Any, BoolValue};
use pb::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
use pb::core::{config_source::ConfigSourceSpecifier, transport_socket::ConfigType as SocketConfig};
use pb::listener::{FilterChain, filter::ConfigType};
use pb::tls::common_tls_context::ValidationContextType;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use prost::{Message, Name};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const CASES: usize = 40;

fn bootstrap() -> Bootstrap {
    use pb::core::{ApiConfigSource, GrpcService, api_config_source::ApiType, grpc_service};
    let envoy_grpc = grpc_service::EnvoyGrpc { cluster_name: "xds".into(), ..Default::default() };
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(envoy_grpc)),
        ..Default::default()
    };
    let ads_config = ApiConfigSource {
        api_type: ApiType::DeltaGrpc.into(),
        transport_api_version: pb::core::ApiVersion::V3.into(),
        grpc_services: vec![service],
        ..Default::default()
    };
    let xds = pb::cluster::Cluster {
        name: "xds".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Default::default()
    };
    Bootstrap {
        node: Some(pb::core::Node { id: "n".into(), cluster: "c".into(), ..Default::default() }),
        dynamic_resources: Some(bootstrap::DynamicResources { ads_config: Some(ads_config), ..Default::default() }),
        static_resources: Some(bootstrap::StaticResources { clusters: vec![xds], ..Default::default() }),
        ..Default::default()
    }
}

fn envoy() -> Option<PathBuf> {
    let installed = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.weir/peers/bin/envoy"));
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let found = named.or_else(|| installed.exists().then_some(installed));
    if found.is_none() {
        assert!(std::env::var_os("WEIR_NO_SKIP").is_none(), "Envoy is not installed: run tests/setup");
        eprintln!("SKIPPED: Envoy is not installed; run tests/setup to have this tested");
    }
    found
}

fn accepts(dir: &Path, what: &str, bootstrap: &Bootstrap) {
    let Some(envoy) = envoy() else { return };
    let file = dir.join("bootstrap.pb");
    std::fs::write(&file, bootstrap.encode_to_vec()).unwrap();
    let run = Command::new(envoy).args(["--mode", "validate", "-l", "error", "-c"]).arg(&file).output().unwrap();
    let why = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{why}\n{what}");
}

/// Some values, the same ones at every run.
fn some<S: Strategy>(strategy: S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn with(change: impl FnOnce(&mut bootstrap::StaticResources)) -> Bootstrap {
    let mut b = bootstrap();
    change(b.static_resources.get_or_insert_default());
    b
}

#[test]
fn real_envoy_takes_clusters_and_endpoints() {
    let dir = tempfile::tempdir().unwrap();
    for c in some(values::cluster()) {
        let mut pb = pb::cluster::Cluster::decode(&*encode_cluster(&c, Class::Envoy)).unwrap();
        pb.transport_socket.iter_mut().for_each(|socket| secrets_from_file(socket, dir.path()));
        accepts(dir.path(), &format!("{c:?}"), &with(|r| r.clusters.push(pb)));
    }
    for e in some(values::endpoints()) {
        let assignment = pb::endpoint::ClusterLoadAssignment::decode(&*encode_endpoints(&e, Class::Envoy)).unwrap();
        let pb = pb::cluster::Cluster {
            name: e.name.to_string(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
            load_assignment: Some(assignment),
            ..Default::default()
        };
        accepts(dir.path(), &format!("{e:?}"), &with(|r| r.clusters.push(pb)));
    }
}

#[test]
fn real_envoy_takes_listeners_and_routes() {
    let dir = tempfile::tempdir().unwrap();
    for l in some(values::listener()) {
        let mut pb = pb::listener::Listener::decode(&*encode_listener(&l, Class::Envoy)).unwrap();
        match &l {
            Listener::Inbound(l) if l.chains.is_empty() => continue,
            Listener::Inbound(_) => {}
            // What has no socket is given one, since Envoy looks at nothing else.
            Listener::Api(_) => {
                let manager = pb.api_listener.take().and_then(|a| a.api_listener).unwrap();
                give_socket(&mut pb, manager);
            }
        }
        pb.filter_chains.iter_mut().for_each(without_cluster_check);
        let sockets = pb.filter_chains.iter_mut().filter_map(|c| c.transport_socket.as_mut());
        sockets.for_each(|socket| secrets_from_file(socket, dir.path()));
        accepts(dir.path(), &format!("{l:?}"), &with(|r| r.listeners.push(pb)));
    }
    for r in some(values::routes()) {
        let config = pb::route::RouteConfiguration::decode(&*encode_route(&r, Class::Envoy)).unwrap();
        let api = ApiListener {
            name: "l".into(),
            routes: RouteSource::Rds("r".into()),
            http: HttpOptions::default(),
            by_name: false,
        };
        let api = encode_listener(&Listener::Api(api), Class::Envoy);
        let mut pb = pb::listener::Listener::decode(&*api).unwrap();
        let any = pb.api_listener.take().and_then(|a| a.api_listener).unwrap();
        let mut manager = pb::hcm::HttpConnectionManager::decode(any.value.as_slice()).unwrap();
        manager.route_specifier = Some(pb::hcm::http_connection_manager::RouteSpecifier::RouteConfig(config));
        give_socket(&mut pb, pack(&manager));
        pb.filter_chains.iter_mut().for_each(without_cluster_check);
        accepts(dir.path(), &format!("{r:?}"), &with(|x| x.listeners.push(pb)));
    }
}

fn give_socket(listener: &mut pb::listener::Listener, manager: Any) {
    let filter = pb::listener::Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(ConfigType::TypedConfig(manager)),
    };
    listener.filter_chains = vec![FilterChain { filters: vec![filter], ..Default::default() }];
    listener.address = Some(endpoints::address(([127, 0, 0, 1], 15001).into()));
}

/// Certificates come from a file: `--mode validate` of Envoy 1.40 falls over secrets that come over ADS.
fn secrets_from_file(socket: &mut pb::core::TransportSocket, dir: &Path) {
    let file = dir.join("sds.yaml");
    std::fs::write(&file, "resources: []\n").unwrap();
    let path = pb::core::PathConfigSource { path: file.to_string_lossy().into(), ..Default::default() };
    let source = pb::core::ConfigSource {
        resource_api_version: pb::core::ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::PathConfigSource(path)),
        ..Default::default()
    };
    let redirect = |common: &mut Option<pb::tls::CommonTlsContext>| {
        let common = common.as_mut().unwrap();
        for secret in &mut common.tls_certificate_sds_secret_configs {
            secret.sds_config = Some(source.clone());
        }
        if let Some(ValidationContextType::CombinedValidationContext(c)) = &mut common.validation_context_type {
            c.validation_context_sds_secret_config.as_mut().unwrap().sds_config = Some(source.clone());
        }
    };
    let Some(SocketConfig::TypedConfig(any)) = &mut socket.config_type else { return };
    if any.type_url == pb::tls::UpstreamTlsContext::type_url() {
        let mut context = pb::tls::UpstreamTlsContext::decode(any.value.as_slice()).unwrap();
        redirect(&mut context.common_tls_context);
        *any = pack(&context);
    } else {
        let mut context = pb::tls::DownstreamTlsContext::decode(any.value.as_slice()).unwrap();
        redirect(&mut context.common_tls_context);
        *any = pack(&context);
    }
}

/// The clusters that routes name are not there; over ADS nobody minds.
fn without_cluster_check(chain: &mut FilterChain) {
    use pb::hcm::http_connection_manager::RouteSpecifier;
    for filter in &mut chain.filters {
        let Some(ConfigType::TypedConfig(any)) = &mut filter.config_type else { continue };
        if any.type_url != pb::hcm::HttpConnectionManager::type_url() {
            continue;
        }
        let mut manager = pb::hcm::HttpConnectionManager::decode(any.value.as_slice()).unwrap();
        if let Some(RouteSpecifier::RouteConfig(config)) = &mut manager.route_specifier {
            config.validate_clusters = Some(BoolValue { value: false });
        }
        *any = pack(&manager);
    }
}
