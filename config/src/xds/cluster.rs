//! Clusters ⇄ Envoy's `Cluster`. Balancing is in `balance`, circuit breaking in `outlier`, TLS in `tls`.
//!
//! What Envoy has no field for is in `metadata.filter_metadata["weir"]`: `protocol: tcp` (Envoy's clusters do not say that
//! they carry bytes). Maps have at most one entry, since their order on the wire is not fixed and the bytes are hashed.
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    Class, balance, endpoints, outlier, tls,
    wire::{At, Report, ads, duration, ignored, pack, pb, read_ads, read_percent, read_positive, unpack, unsupported},
};
use crate::model::{Cluster, Discovery, LoadBalancing, Protocol};
use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind as ValueKind};
use pb::cluster::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbPolicy, TransportSocketMatch,
    common_lb_config,
};
use pb::core::{Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common};
use pb::upstream_http::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions as By, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig as Explicit,
    },
};
use std::{collections::HashMap, time::Duration};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const OURS: &str = "weir";
const PROTOCOL: &str = "protocol";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's.
const DEFAULT_PANIC_PERCENT: u8 = 50;

/// A cluster for a class of client.
pub(super) fn cluster(c: &Cluster, class: Class) -> pb::cluster::Cluster {
    let (kind, eds_cluster_config, load_assignment) = match &c.discovery {
        Discovery::Eds(name) => {
            let service_name = if *name == c.name { String::new() } else { name.to_string() };
            (DiscoveryType::Eds, Some(EdsClusterConfig { eds_config: Some(ads()), service_name }), None)
        }
        Discovery::Static(e) => (DiscoveryType::Static, None, Some(endpoints::assignment(e))),
        Discovery::Dns { host, port } => {
            (DiscoveryType::LogicalDns, None, Some(endpoints::named(&c.name, host, *port)))
        }
        Discovery::OriginalDestination => (DiscoveryType::OriginalDst, None, None),
    };
    let captured = c.discovery == Discovery::OriginalDestination;
    // gRPC refuses SDS (gRFC A29); it is called in plain text or brings credentials of its own.
    let tls = c.tls.as_ref().filter(|_| class != Class::Grpc);
    pb::cluster::Cluster {
        name: c.name.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        eds_cluster_config,
        load_assignment,
        connect_timeout: Some(duration(c.connect_timeout)),
        // Where there is nothing to choose from, Envoy wants no other policy than this.
        load_balancing_policy: (!captured).then(|| balance::policies(&c.load_balancing, class)),
        lb_policy: if captured { LbPolicy::ClusterProvided.into() } else { 0 },
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(pb::ty::Percent { value: c.panic_threshold_percent.into() }),
            ..Default::default()
        }),
        circuit_breakers: Some(outlier::limits(&c.limits, &c.retry_budget)),
        outlier_detection: c.outlier.as_ref().map(outlier::outlier),
        typed_extension_protocol_options: [(HTTP_OPTIONS.to_owned(), pack(&http_options(c)))].into(),
        // An endpoint that says that it has no sidecar is called in plain text.
        transport_socket_matches: tls.map(|_| plain_text_match()).into_iter().collect(),
        transport_socket: tls.map(|t| tls::upstream(t, c.protocol)),
        metadata: (c.protocol == Protocol::Tcp).then(tcp_metadata),
        ..Default::default()
    }
}

fn http_options(c: &Cluster) -> HttpProtocolOptions {
    let http1 = || Some(Http1ProtocolOptions::default());
    let http2 = || Some(Http2ProtocolOptions::default());
    let explicit = |e| By::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(e) });
    let by = match c.protocol {
        Protocol::Http1 | Protocol::Tcp => explicit(Explicit::HttpProtocolOptions(Http1ProtocolOptions::default())),
        Protocol::Http2 => explicit(Explicit::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        Protocol::UseDownstream => By::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: http1(),
            http2_protocol_options: http2(),
            http3_protocol_options: None,
        }),
    };
    let common = (c.idle_timeout.is_some() || c.max_connection_age.is_some()).then(|| Common {
        idle_timeout: c.idle_timeout.map(duration),
        max_connection_duration: c.max_connection_age.map(duration),
        ..Default::default()
    });
    HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(by),
        ..Default::default()
    }
}

fn plain_text_match() -> TransportSocketMatch {
    TransportSocketMatch {
        name: "plain-text".into(),
        r#match: Some(endpoints::plain_text()),
        transport_socket: Some(tls::raw()),
    }
}

fn tcp_metadata() -> pb::core::Metadata {
    let tcp = Value { kind: Some(ValueKind::StringValue("tcp".into())) };
    let ours = Struct { fields: [(PROTOCOL.to_owned(), tcp)].into() };
    pb::core::Metadata { filter_metadata: [(OURS.to_owned(), ours)].into(), ..Default::default() }
}

/// Reads a cluster, with Envoy's defaults.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: pb::cluster::Cluster) -> Option<Cluster> {
    let pb::cluster::Cluster {
        transport_socket_matches,
        transport_socket_matcher,
        name,
        alt_stat_name,
        stats_matcher,
        eds_cluster_config,
        connect_timeout,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        lb_policy,
        load_assignment,
        health_checks,
        max_requests_per_connection,
        circuit_breakers,
        upstream_http_protocol_options,
        common_http_protocol_options,
        http_protocol_options,
        http2_protocol_options,
        typed_extension_protocol_options,
        dns_refresh_rate,
        dns_jitter,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_lookup_family,
        dns_resolvers,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        wait_for_warm_on_init,
        outlier_detection,
        cleanup_interval,
        upstream_bind_config,
        lb_subset_config,
        common_lb_config,
        transport_socket,
        metadata,
        protocol_selection,
        upstream_connection_options,
        close_connections_on_host_health_failure,
        ignore_health_on_host_removal,
        filters,
        load_balancing_policy,
        lrs_server,
        lrs_report_endpoint_metrics,
        track_timeout_budgets,
        upstream_config,
        track_cluster_stats,
        preconnect_policy,
        connection_pool_per_downstream_connection,
        queuing_policies,
        cluster_discovery_type,
        lb_config,
    } = sent;
    unsupported!(out, at; transport_socket_matcher, max_requests_per_connection, upstream_http_protocol_options,
        common_http_protocol_options, http_protocol_options, upstream_bind_config, lb_subset_config,
        protocol_selection, filters, upstream_config, connection_pool_per_downstream_connection);
    ignored!(out, at; alt_stat_name, stats_matcher, per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout, health_checks, dns_refresh_rate, dns_jitter,
        dns_failure_refresh_rate, respect_dns_ttl, dns_lookup_family, dns_resolvers, use_tcp_for_dns_lookups,
        dns_resolution_config, typed_dns_resolver_config, wait_for_warm_on_init, cleanup_interval,
        upstream_connection_options, close_connections_on_host_health_failure, ignore_health_on_host_removal,
        lrs_server, lrs_report_endpoint_metrics, track_timeout_budgets, track_cluster_stats, preconnect_policy,
        queuing_policies);
    read_socket_matches(out, at, &transport_socket_matches, transport_socket.is_some());
    let name = out.name(&at.field("name"), name)?;
    let discovery = read_discovery(out, at, &name, cluster_discovery_type, eds_cluster_config, load_assignment);
    let (limits, retry_budget) = outlier::read_limits(out, &at.field("circuit_breakers"), circuit_breakers);
    let (spoken, common) = read_protocol(out, at, &typed_extension_protocol_options, http2_protocol_options.is_some());
    let at_common = at.field("common_http_protocol_options");
    Some(Cluster {
        connect_timeout: read_positive(out, at, "connect_timeout", connect_timeout).unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        load_balancing: match discovery {
            // Nothing to choose from.
            Some(Discovery::OriginalDestination) if load_balancing_policy.is_none() && lb_config.is_none() => {
                LoadBalancing::RoundRobin
            }
            _ => balance::read(out, at, load_balancing_policy, lb_policy, lb_config)?,
        },
        protocol: if is_tcp(metadata.as_ref()) { Protocol::Tcp } else { spoken },
        tls: transport_socket.and_then(|t| tls::read_upstream(out, &at.field("transport_socket"), &t)),
        limits,
        outlier: outlier_detection.map(|o| outlier::read_outlier(out, &at.field("outlier_detection"), o)),
        retry_budget,
        panic_threshold_percent: read_panic(out, &at.field("common_lb_config"), common_lb_config)?,
        idle_timeout: read_positive(out, &at_common, "idle_timeout", common.idle_timeout),
        max_connection_age: read_positive(out, &at_common, "max_connection_duration", common.max_connection_duration),
        discovery: discovery?,
        name,
    })
}

/// Plain text for endpoints that say that they have no sidecar is the one supported match.
fn read_socket_matches(out: &mut Report, at: &At<'_>, sent: &[TransportSocketMatch], tls: bool) {
    for (i, m) in sent.iter().enumerate() {
        let plain = m.transport_socket.as_ref().is_some_and(tls::is_raw);
        let known = m.r#match.as_ref().is_some_and(|m| *m == endpoints::plain_text());
        if !plain || !known || !tls {
            out.refuse(&at.item("transport_socket_matches", i), "is not supported");
        }
    }
}

fn read_discovery(
    out: &mut Report,
    at: &At<'_>,
    name: &str,
    kind: Option<ClusterDiscoveryType>,
    eds: Option<EdsClusterConfig>,
    assignment: Option<pb::endpoint::ClusterLoadAssignment>,
) -> Option<Discovery> {
    let kind = match kind {
        None => Ok(DiscoveryType::Static),
        Some(ClusterDiscoveryType::Type(t)) => DiscoveryType::try_from(t).map_err(|_| "type"),
        Some(ClusterDiscoveryType::ClusterType(_)) => Err("cluster_type"),
    };
    match kind {
        Ok(DiscoveryType::Eds) => {
            out.unsupported(at, "load_assignment", &assignment);
            let EdsClusterConfig { eds_config, service_name } = eds.unwrap_or_default();
            let at = at.field("eds_cluster_config");
            read_ads(out, &at.field("eds_config"), eds_config);
            let service = if service_name.is_empty() { name.to_owned() } else { service_name };
            out.name(&at.field("service_name"), service).map(Discovery::Eds)
        }
        Ok(DiscoveryType::Static) => {
            let at = at.field("load_assignment");
            let mut assignment = assignment.unwrap_or_default();
            if assignment.cluster_name.is_empty() {
                name.clone_into(&mut assignment.cluster_name);
            }
            endpoints::read(out, &at, assignment).map(Discovery::Static)
        }
        Ok(DiscoveryType::OriginalDst) => {
            out.unsupported(at, "load_assignment", &assignment);
            Some(Discovery::OriginalDestination)
        }
        // All addresses of the one name are tried when a connection is made, whichever of the two it is.
        Ok(DiscoveryType::StrictDns | DiscoveryType::LogicalDns) => {
            let (host, port) =
                endpoints::read_named(out, &at.field("load_assignment"), assignment.unwrap_or_default())?;
            Some(Discovery::Dns { host, port })
        }
        Err(field) => {
            out.refuse(&at.field(field), "is not supported");
            None
        }
    }
}

fn read_protocol(out: &mut Report, at: &At<'_>, options: &HashMap<String, Any>, old_http2: bool) -> (Protocol, Common) {
    let at = at.field("typed_extension_protocol_options");
    let mut found = None;
    for (name, any) in options {
        if name == HTTP_OPTIONS {
            found = unpack::<HttpProtocolOptions>(out, &at.field(name), any);
        } else {
            out.refuse(&at.field(name), "is not supported");
        }
    }
    match found {
        Some(options) => read_http_options(out, &at.field(HTTP_OPTIONS), options),
        None if old_http2 => (Protocol::Http2, Common::default()),
        None => (Protocol::Http1, Common::default()),
    }
}

fn read_http_options(out: &mut Report, at: &At<'_>, sent: HttpProtocolOptions) -> (Protocol, Common) {
    let HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = sent;
    unsupported!(out, at; upstream_http_protocol_options, http_filters, header_validation_config, outlier_detection,
        request_mirror_policies, retry_policy);
    ignored!(out, at; hash_policy);
    let protocol = match upstream_protocol_options {
        // Automatic choice is by ALPN; what the client speaks is offered first.
        Some(By::UseDownstreamProtocolConfig(_) | By::AutoConfig(_)) => Protocol::UseDownstream,
        Some(By::ExplicitHttpConfig(e)) => match e.protocol_config {
            Some(Explicit::Http2ProtocolOptions(_)) => Protocol::Http2,
            Some(Explicit::Http3ProtocolOptions(_)) => {
                out.refuse(&at.field("explicit_http_config.http3_protocol_options"), "is not supported");
                Protocol::Http2
            }
            Some(Explicit::HttpProtocolOptions(_)) | None => Protocol::Http1,
        },
        None => Protocol::Http1,
    };
    let common = common_http_protocol_options.unwrap_or_default();
    let at = at.field("common_http_protocol_options");
    out.unsupported(&at, "max_stream_duration", &common.max_stream_duration);
    out.ignored(&at, "max_requests_per_connection", &common.max_requests_per_connection);
    out.ignored(&at, "max_connection_duration_jitter", &common.max_connection_duration_jitter);
    out.ignored(&at, "max_headers_count", &common.max_headers_count);
    out.ignored(&at, "max_response_headers_kb", &common.max_response_headers_kb);
    out.ignored(&at, "headers_with_underscores_action", &common.headers_with_underscores_action);
    (protocol, common)
}

fn is_tcp(metadata: Option<&pb::core::Metadata>) -> bool {
    let value = metadata.and_then(|m| m.filter_metadata.get(OURS)).and_then(|s| s.fields.get(PROTOCOL));
    matches!(value, Some(Value { kind: Some(ValueKind::StringValue(p)) }) if p == "tcp")
}

fn read_panic(out: &mut Report, at: &At<'_>, sent: Option<CommonLbConfig>) -> Option<u8> {
    let CommonLbConfig {
        healthy_panic_threshold,
        update_merge_window,
        ignore_new_hosts_until_first_hc,
        close_connections_on_host_set_change,
        consistent_hashing_lb_config,
        override_host_status,
        locality_config_specifier,
    } = sent.unwrap_or_default();
    ignored!(out, at; update_merge_window, ignore_new_hosts_until_first_hc, close_connections_on_host_set_change,
        consistent_hashing_lb_config, override_host_status);
    if let Some(common_lb_config::LocalityConfigSpecifier::ZoneAwareLbConfig(_)) = locality_config_specifier {
        out.note(&at.field("zone_aware_lb_config"), "is ignored");
    }
    match healthy_panic_threshold {
        Some(percent) => read_percent(out, &at.field("healthy_panic_threshold"), percent),
        None => Some(DEFAULT_PANIC_PERCENT),
    }
}
