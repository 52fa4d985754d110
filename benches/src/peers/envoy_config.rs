//! Envoy's configuration, as Istio writes it for a sidecar, with what is stock in Envoy.
//!
//! Kept from Istio: connection manager with automatic codec and path normalisation, request ids, per-route default
//! retries, fault and CORS filters, gRPC statistics, router; circuit breakers at their maximum with tracked remainders;
//! least-request balancing; TCP keep-alive; 32 KiB buffers of clusters; mutual TLS with the peer's SPIFFE name checked;
//! access log off. Not in stock Envoy, so left out, which makes Envoy cheaper here than Istio's build is: the
//! peer-metadata and `istio.stats` filters. HTTP/1.1 between the sidecars for `http` ports, HTTP/2 for `grpc` ports.

use super::pki::{Certificates, identity};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What `http` ports speak between the sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// HTTP/1.1, as Istio sets it.
    AsTheClient,
    /// HTTP/2, as `h2UpgradePolicy: UPGRADE` sets it.
    Http2,
}

/// The server name that leads to a port's filter chain.
pub(crate) fn server_name(service: &str, port: u16) -> String {
    format!("outbound_.{port}_._.{service}.default.svc.cluster.local")
}

/// The caller's sidecar: plain in, mutual TLS out.
pub(crate) fn outbound(
    admin: SocketAddr,
    listen: SocketAddr,
    peer: SocketAddr,
    own: &Certificates,
    between: Between,
) -> Value {
    let hosts = |name: &str, port: u16| {
        json!({
            "name": format!("{name}.default.svc.cluster.local:{port}"),
            "domains": [
                format!("{name}:{port}"), format!("{name}.default:{port}"), format!("{name}.default.svc:{port}"),
                format!("{name}.default.svc.cluster.local:{port}"),
            ],
            "include_request_attempt_count": true,
            "routes": [route(&cluster_name(name, port), true)],
        })
    };
    let upstream = |name: &str, port: u16, http2: bool| {
        let mut upstream = cluster(&cluster_name(name, port), peer, http2);
        upstream["transport_socket"] = tls(
            "UpstreamTlsContext",
            json!({
                "common_tls_context": common_tls(own, "bench", &[if http2 { "h2" } else { "http/1.1" }]),
                "sni": server_name(name, port),
            }),
        );
        upstream
    };
    let routes = json!([hosts("bench-http", 8080), hosts("bench-grpc", 8081)]);
    bootstrap(
        admin,
        json!([{
            "name": "outbound",
            "address": address(listen),
            "traffic_direction": "OUTBOUND",
            "filter_chains": [{"filters": [manager("outbound", routes, json!({}))]}],
        }]),
        json!([upstream("bench-http", 8080, between == Between::Http2), upstream("bench-grpc", 8081, true)]),
    )
}

/// The application's sidecar: mutual TLS in, plain out.
pub(crate) fn inbound(admin: SocketAddr, listen: SocketAddr, application: SocketAddr, own: &Certificates) -> Value {
    let chain = |name: &str, port: u16| {
        let cluster = format!("inbound|{port}||");
        let routes =
            json!([{"name": format!("inbound|http|{port}"), "domains": ["*"], "routes": [route(&cluster, false)]}]);
        let manager = manager(
            &format!("inbound_{port}"),
            routes,
            json!({
                "forward_client_cert_details": "APPEND_FORWARD",
                "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
            }),
        );
        json!({
            "name": cluster,
            "filter_chain_match": {
                "server_names": [server_name(name, port)],
                "transport_protocol": "tls",
            },
            "filters": [manager],
            "transport_socket": tls("DownstreamTlsContext", json!({
                "common_tls_context": common_tls(own, "client", &["h2", "http/1.1"]),
                "require_client_certificate": true,
            })),
        })
    };
    bootstrap(
        admin,
        json!([{
            "name": "virtualInbound",
            "address": address(listen),
            "traffic_direction": "INBOUND",
            "listener_filters": [{
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": typed("extensions.filters.listener.tls_inspector.v3.TlsInspector", json!({})),
            }],
            "filter_chains": [chain("bench-http", 8080), chain("bench-grpc", 8081)],
        }]),
        json!([cluster("inbound|8080||", application, false), cluster("inbound|8081||", application, true)]),
    )
}

fn cluster_name(name: &str, port: u16) -> String {
    format!("outbound|{port}||{name}.default.svc.cluster.local")
}

fn bootstrap(admin: SocketAddr, listeners: Value, clusters: Value) -> Value {
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn manager(prefix: &str, hosts: Value, further: Value) -> Value {
    let mut manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": prefix,
            "codec_type": "AUTO",
            "server_name": "istio-envoy",
            "normalize_path": true,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "use_remote_address": false,
            "generate_request_id": true,
            "stream_idle_timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "request_id_extension": {"typed_config": typed(
                "extensions.request_id.uuid.v3.UuidRequestIdConfig",
                json!({"use_request_id_for_trace_sampling": true}),
            )},
            "route_config": {"name": prefix, "virtual_hosts": hosts, "validate_clusters": false},
            "http_filters": [
                filter("grpc_stats", "grpc_stats.v3.FilterConfig", json!({"emit_filter_state": true, "stats_for_all_methods": false})),
                filter("fault", "fault.v3.HTTPFault", json!({})),
                filter("cors", "cors.v3.Cors", json!({})),
                filter("router", "router.v3.Router", json!({})),
            ],
        }),
    );
    if let (Some(manager), Value::Object(further)) = (manager.as_object_mut(), further) {
        manager.extend(further);
    }
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
}

fn filter(name: &str, kind: &str, config: Value) -> Value {
    json!({
        "name": format!("envoy.filters.http.{name}"),
        "typed_config": typed(&format!("extensions.filters.http.{kind}"), config),
    })
}

fn route(cluster: &str, retries: bool) -> Value {
    let mut action = json!({
        "cluster": cluster,
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
    });
    if retries {
        action["retry_policy"] = json!({
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "num_retries": 2,
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", json!({})),
            }],
            "host_selection_retry_max_attempts": 5,
            "retriable_status_codes": [503],
        });
    }
    json!({"name": "default", "match": {"prefix": "/"}, "route": action, "decorator": {"operation": cluster}})
}

fn cluster(name: &str, to: SocketAddr, http2: bool) -> Value {
    const MOST: u32 = u32::MAX;
    let protocol = if http2 { json!({"http2_protocol_options": {}}) } else { json!({"http_protocol_options": {}}) };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": 32768,
        "circuit_breakers": {"thresholds": [{
            "max_connections": MOST, "max_pending_requests": MOST, "max_requests": MOST, "max_retries": MOST,
            "track_remaining": true,
        }]},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 9, "keepalive_time": 180, "keepalive_interval": 75}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                json!({"explicit_http_config": protocol}),
            ),
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}],
        },
    })
}

fn tls(kind: &str, context: Value) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed(&format!("extensions.transport_sockets.tls.v3.{kind}"), context),
    })
}

fn common_tls(own: &Certificates, peer: &str, alpn: &[&str]) -> Value {
    json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": alpn,
        "tls_certificates": [{"certificate_chain": {"filename": own.chain}, "private_key": {"filename": own.key}}],
        "validation_context": {
            "trusted_ca": {"filename": own.root},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": identity(peer)}}],
        },
    })
}

fn typed(kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    config
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}
