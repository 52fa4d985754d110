//! Listeners ⇄ Envoy's `Listener`: by name for what is called (`api_listener`, as proxyless gRPC has it, gRFC A27), with
//! filter chains for what arrives.
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    Class, authz, endpoints, hcm, limits, tls,
    wire::{At, Report, duration, ignored, is_true, number, pack, pb, read_duration, shown, unpack, unsupported},
};
use crate::model::{
    ApiListener, Authz, ChainMatch, InboundChain, InboundListener, InboundTarget, Listener, RouteSource,
};
use envoy_types::pb::google::protobuf::Any;
use pb::core::TrafficDirection;
use pb::listener::{Filter, FilterChain, FilterChainMatch, ListenerFilter, filter, listener_filter};
use pb::tcp_proxy::{TcpProxy, tcp_proxy::ClusterSpecifier};
use prost::Name;
use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

const HCM: &str = "envoy.filters.network.http_connection_manager";
const NETWORK_RBAC: &str = "envoy.filters.network.rbac";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";
const HTTP_INSPECTOR: &str = "envoy.filters.listener.http_inspector";
/// Where inbound traffic is caught. A sidecar listens where its own start-up file says; Envoy must be told.
const INBOUND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15006);
/// Envoy's, for bytes.
const DEFAULT_TCP_IDLE: Duration = Duration::from_secs(3600);

/// A listener for a class of client.
pub(super) fn listener(l: &Listener, class: Class) -> pb::listener::Listener {
    match l {
        Listener::Api(l) => api(l, class),
        Listener::Inbound(l) => inbound(l, class),
    }
}

fn api(l: &ApiListener, class: Class) -> pb::listener::Listener {
    let manager = hcm::manager(&l.name, &l.routes, &l.http, &Authz::default(), class);
    pb::listener::Listener {
        name: l.name.to_string(),
        api_listener: Some(pb::listener::ApiListener { api_listener: Some(manager) }),
        // By these a name is found in what a client says.
        listener_filters: if l.by_name { inspectors() } else { vec![] },
        ..Default::default()
    }
}

fn inspectors() -> Vec<ListenerFilter> {
    let tls = inspector(TLS_INSPECTOR, pack(&pb::tls_inspector::TlsInspector::default()));
    vec![tls, inspector(HTTP_INSPECTOR, pack(&pb::http_inspector::HttpInspector::default()))]
}

fn inspector(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.into(),
        filter_disabled: None,
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
    }
}

fn inbound(l: &InboundListener, class: Class) -> pb::listener::Listener {
    // Envoy looks for HTTP only where it matters: not every caller speaks first.
    let detects = l.chains.iter().any(|c| c.tls.is_none() && !c.matches.protocols.is_empty());
    let http = detects.then(|| inspector(HTTP_INSPECTOR, pack(&pb::http_inspector::HttpInspector::default())));
    let tls = inspector(TLS_INSPECTOR, pack(&pb::tls_inspector::TlsInspector::default()));
    pb::listener::Listener {
        name: l.name.to_string(),
        address: Some(endpoints::address(INBOUND)),
        filter_chains: l.chains.iter().map(|c| chain(c, class)).collect(),
        // gRPC servers refuse listener filters (gRFC A36).
        listener_filters: if class == Class::Grpc { vec![] } else { [tls].into_iter().chain(http).collect() },
        traffic_direction: TrafficDirection::Inbound.into(),
        ..Default::default()
    }
}

fn chain(c: &InboundChain, class: Class) -> FilterChain {
    let filters = match &c.target {
        InboundTarget::Http { routes, http } => {
            let routes = RouteSource::Inline(routes.clone());
            vec![network_filter(HCM, hcm::manager(&c.name, &routes, http, &c.authz, class))]
        }
        InboundTarget::Tcp { cluster, idle_timeout } => {
            let proxy = pack(&TcpProxy {
                stat_prefix: c.name.to_string(),
                cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_string())),
                // Zero: no limit. Left out it would be an hour.
                idle_timeout: Some(duration(idle_timeout.unwrap_or_default())),
                ..Default::default()
            });
            let rbac = authz::network_filters(&c.authz, class).into_iter().map(|any| network_filter(NETWORK_RBAC, any));
            rbac.chain([network_filter(TCP_PROXY, proxy)]).collect()
        }
    };
    let http = matches!(c.target, InboundTarget::Http { .. });
    FilterChain {
        name: c.name.to_string(),
        filter_chain_match: Some(FilterChainMatch {
            server_names: c.matches.server_names.clone(),
            destination_port: c.matches.destination_port.and_then(|p| number(p.into())),
            application_protocols: c.matches.protocols.clone(),
            transport_protocol: if c.tls.is_some() { "tls" } else { "raw_buffer" }.into(),
            ..Default::default()
        }),
        filters,
        transport_socket: c.tls.filter(|_| class != Class::Grpc).map(|t| tls::downstream(t, http)),
        ..Default::default()
    }
}

fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// Reads a listener.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: pb::listener::Listener) -> Option<Listener> {
    let pb::listener::Listener {
        name,
        address: _,
        additional_addresses,
        stat_prefix: _,
        stats_matcher,
        filter_chains,
        fcds_config,
        filter_chain_matcher,
        use_original_dst: _,
        default_filter_chain,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        metadata,
        deprecated_v1,
        drain_type,
        listener_filters,
        listener_filters_timeout,
        continue_on_listener_filters_timeout,
        transparent,
        freebind,
        socket_options,
        tcp_fast_open_queue_length,
        traffic_direction: _,
        udp_listener_config,
        api_listener,
        connection_balance_config,
        reuse_port,
        enable_reuse_port,
        access_log,
        tcp_backlog_size,
        max_connections_to_accept_per_socket_event,
        bind_to_port: _,
        enable_mptcp,
        ignore_global_conn_limit,
        bypass_overload_manager,
        tcp_keepalive,
        listener_specifier,
    } = sent;
    unsupported!(out, at; additional_addresses, fcds_config, filter_chain_matcher, default_filter_chain,
        udp_listener_config, listener_specifier);
    ignored!(out, at; stats_matcher, per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout,
        metadata, deprecated_v1, drain_type, listener_filters_timeout, continue_on_listener_filters_timeout,
        transparent, freebind, socket_options, tcp_fast_open_queue_length, connection_balance_config, reuse_port,
        enable_reuse_port, access_log, tcp_backlog_size, max_connections_to_accept_per_socket_event, enable_mptcp,
        ignore_global_conn_limit, bypass_overload_manager, tcp_keepalive);
    let name = out.name(&at.field("name"), name)?;
    for (i, f) in listener_filters.iter().enumerate() {
        read_listener_filter(out, &at.item("listener_filters", i), f);
    }
    if let Some(api) = api_listener {
        let at = at.field("api_listener");
        let hcm::Read { routes, http, authz } = hcm::read(out, &at, &api.api_listener.unwrap_or_default())?;
        if authz != Authz::default() {
            out.refuse(&at, "an RBAC filter is not supported for what is called, only for what arrives");
        }
        let by_name = listener_filters.iter().any(|f| f.name == TLS_INSPECTOR);
        return Some(Listener::Api(ApiListener { name, routes, http, by_name }));
    }
    if !out.within(at, "filter_chains", &filter_chains, limits::CHAINS) {
        return None;
    }
    let mut taken = HashSet::new();
    let mut chains = vec![];
    for (i, c) in filter_chains.into_iter().enumerate() {
        let at = at.item("filter_chains", i);
        let Some(chain) = read_chain(out, &at, c) else { continue };
        let names = chain.matches.server_names.iter().cloned().map(Some);
        let names: Vec<_> = if chain.matches.server_names.is_empty() { vec![None] } else { names.collect() };
        for name in names {
            let protocols = chain.matches.protocols.iter().cloned().map(Some);
            let protocols: Vec<_> = if chain.matches.protocols.is_empty() { vec![None] } else { protocols.collect() };
            for protocol in protocols {
                let key = (name.clone(), chain.matches.destination_port, chain.tls.is_some(), protocol);
                if !taken.insert(key) {
                    out.refuse(&at.field("filter_chain_match"), "is also another chain's");
                }
            }
        }
        chains.push(chain);
    }
    Some(Listener::Inbound(InboundListener { name, chains }))
}

/// Detection of TLS, protocol and original destination is built in.
fn read_listener_filter(out: &mut Report, at: &At<'_>, sent: &ListenerFilter) {
    const BUILT_IN: [&str; 3] = [TLS_INSPECTOR, HTTP_INSPECTOR, "envoy.filters.listener.original_dst"];
    if !BUILT_IN.contains(&sent.name.as_str()) {
        out.refuse(at, format!("the filter `{}` is not supported", shown(&sent.name)));
    }
}

fn read_chain(out: &mut Report, at: &At<'_>, sent: FilterChain) -> Option<InboundChain> {
    let FilterChain {
        filter_chain_match,
        filters,
        use_proxy_proto,
        metadata,
        transport_socket,
        transport_socket_connect_timeout,
        name,
    } = sent;
    if is_true(use_proxy_proto) {
        out.refuse(&at.field("use_proxy_proto"), "is not supported");
    }
    ignored!(out, at; metadata, transport_socket_connect_timeout);
    let tls = transport_socket.and_then(|t| tls::read_downstream(out, &at.field("transport_socket"), &t));
    let matches =
        read_match(out, &at.field("filter_chain_match"), filter_chain_match.unwrap_or_default(), tls.is_some());
    let (authz, target) = read_network_filters(out, at, filters)?;
    Some(InboundChain { name: out.text(&at.field("name"), name)?.into(), matches: matches?, tls, authz, target })
}

fn read_match(out: &mut Report, at: &At<'_>, sent: FilterChainMatch, tls: bool) -> Option<ChainMatch> {
    let FilterChainMatch {
        destination_port,
        prefix_ranges,
        address_suffix,
        suffix_len,
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
    } = sent;
    unsupported!(out, at; prefix_ranges, address_suffix, suffix_len, direct_source_prefix_ranges, source_type,
        source_prefix_ranges, source_ports);
    let known = if tls { "tls" } else { "raw_buffer" };
    if !transport_protocol.is_empty() && transport_protocol != known {
        out.refuse(&at.field("transport_protocol"), format!("is not `{known}`, which the chain's socket speaks"));
    }
    if !out.within(at, "server_names", &server_names, limits::SERVER_NAMES) {
        return None;
    }
    let names = server_names.into_iter().enumerate();
    let names = names.filter_map(|(i, n)| out.name(&at.item("server_names", i), n));
    let server_names = names.map(|n| n.to_ascii_lowercase()).collect();
    let port = destination_port.map(|p| u16::try_from(p.value));
    if matches!(port, Some(Err(_))) {
        out.refuse(&at.field("destination_port"), "is above 65,535");
    }
    if !out.within(at, "application_protocols", &application_protocols, limits::SERVER_NAMES) {
        return None;
    }
    let known = if tls { ["http/1.1", "h2"] } else { ["http/1.1", "h2c"] };
    let spoken = application_protocols.into_iter().enumerate().filter(|(i, p)| {
        let good = known.contains(&p.as_str());
        // Envoy's inspector tells them apart; a chain for one of them is one for both.
        let also = !tls && p == "http/1.0";
        if !good && !also {
            let known = known.join("` and `");
            out.refuse(&at.item("application_protocols", *i), format!("`{}` is none of `{known}`", shown(p)));
        }
        good
    });
    let protocols = spoken.map(|(_, p)| p).collect();
    Some(ChainMatch { server_names, destination_port: port.and_then(Result::ok), protocols })
}

/// Authorisation, and what serves the connection.
fn read_network_filters(out: &mut Report, at: &At<'_>, sent: Vec<Filter>) -> Option<(Authz, InboundTarget)> {
    let mut authz = Authz::default();
    let mut target = None;
    if !out.within(at, "filters", &sent, limits::FILTERS) {
        return None;
    }
    for (i, f) in sent.into_iter().enumerate() {
        let at = at.item("filters", i);
        if target.is_some() {
            out.refuse(&at, "stands behind the filter that ends the chain");
            return None;
        }
        let Some(filter::ConfigType::TypedConfig(any)) = f.config_type else {
            out.refuse(&at, "has no `typed_config`");
            return None;
        };
        if any.type_url == pb::network_rbac::Rbac::type_url() {
            let rbac = unpack(out, &at, &any)?;
            authz::read_network(out, &at, &mut authz, rbac);
        } else if any.type_url == pb::hcm::HttpConnectionManager::type_url() {
            if authz != Authz::default() {
                out.refuse(&at, "a network RBAC filter before HTTP is not supported; use the HTTP filter");
            }
            target = Some(read_http(out, &at, &any, &mut authz)?);
        } else if any.type_url == TcpProxy::type_url() {
            let proxy = unpack(out, &at, &any)?;
            target = Some(read_tcp(out, &at, proxy)?);
        } else {
            out.refuse(&at, format!("the filter `{}` ({}) is not supported", shown(&f.name), shown(&any.type_url)));
        }
    }
    if target.is_none() {
        out.refuse(&at.field("filters"), "has no HTTP connection manager and no TCP proxy");
    }
    Some((authz, target?))
}

fn read_http(out: &mut Report, at: &At<'_>, any: &Any, into: &mut Authz) -> Option<InboundTarget> {
    let hcm::Read { routes, http, authz } = hcm::read(out, at, any)?;
    *into = authz;
    match routes {
        RouteSource::Inline(routes) => Some(InboundTarget::Http { routes, http }),
        RouteSource::Rds(_) => {
            out.refuse(&at.field("rds"), "is not supported for what arrives; give `route_config`");
            None
        }
    }
}

fn read_tcp(out: &mut Report, at: &At<'_>, sent: TcpProxy) -> Option<InboundTarget> {
    let TcpProxy {
        stat_prefix: _,
        on_demand,
        metadata_match,
        idle_timeout,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log,
        max_connect_attempts,
        backoff_options,
        hash_policy,
        tunneling_config,
        max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage,
        access_log_flush_interval,
        flush_access_log_on_connected,
        access_log_options,
        proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy,
        upstream_connect_mode,
        max_early_data_bytes,
        check_drain_close,
        cluster_specifier,
    } = sent;
    unsupported!(out, at; on_demand, metadata_match, tunneling_config, max_downstream_connection_duration,
        downstream_idle_timeout, upstream_idle_timeout, upstream_connect_mode);
    ignored!(out, at; access_log, max_connect_attempts, backoff_options, hash_policy,
        max_downstream_connection_duration_jitter_percentage, access_log_flush_interval,
        flush_access_log_on_connected, access_log_options, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy,
        max_early_data_bytes, check_drain_close);
    let Some(ClusterSpecifier::Cluster(cluster)) = cluster_specifier else {
        out.refuse(at, "has no `cluster`");
        return None;
    };
    let idle_timeout = match read_duration(out, at, "idle_timeout", idle_timeout) {
        Some(Duration::ZERO) => None,
        Some(d) => Some(d),
        None => Some(DEFAULT_TCP_IDLE),
    };
    Some(InboundTarget::Tcp { cluster: out.name(&at.field("cluster"), cluster)?, idle_timeout })
}
