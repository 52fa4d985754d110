//! How HTTP is served ⇄ Envoy's `HttpConnectionManager`, and the HTTP filters before its router.
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    Class, authz, fault, limits, route,
    wire::{
        At, Report, ads, duration, ignored, pack, pb, read_ads, read_duration, read_positive, shown, unpack,
        unsupported,
    },
};
use crate::model::{Authz, HttpOptions, RouteSource};
use envoy_types::pb::google::protobuf::Any;
use pb::hcm::{
    HttpConnectionManager, HttpFilter, Rds,
    http_connection_manager::{RouteSpecifier, UpgradeConfig},
    http_filter::ConfigType,
};
use prost::{Message, Name};
use std::{sync::Arc, time::Duration};

const ROUTER: &str = "envoy.filters.http.router";
const RBAC: &str = "envoy.filters.http.rbac";
/// Envoy's.
const DEFAULT_STREAM_IDLE: Duration = Duration::from_secs(300);

/// The manager, with filters for these authorisations, and one for the faults that routes may have.
pub(super) fn manager(name: &str, routes: &RouteSource, http: &HttpOptions, authz: &Authz, class: Class) -> Any {
    let routes = match routes {
        RouteSource::Rds(name) => {
            RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: name.to_string() })
        }
        RouteSource::Inline(config) => RouteSpecifier::RouteConfig(route::config(config, class)),
    };
    let mut filters: Vec<_> = authz::http_filters(authz).into_iter().map(|any| filter(RBAC, any)).collect();
    filters.push(filter(fault::FILTER, pack(&pb::fault::HttpFault::default())));
    filters.push(filter(ROUTER, pack(&pb::router::Router::default())));
    pack(&HttpConnectionManager {
        stat_prefix: name.to_owned(),
        route_specifier: Some(routes),
        http_filters: filters,
        // Zero: no limit. Left out it would be five minutes.
        stream_idle_timeout: Some(duration(http.stream_idle_timeout.unwrap_or_default())),
        request_headers_timeout: http.request_headers_timeout.map(duration),
        common_http_protocol_options: http.max_connection_age.map(|age| pb::core::HttpProtocolOptions {
            max_connection_duration: Some(duration(age)),
            ..Default::default()
        }),
        // Always allowed here; Envoy must be told.
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..Default::default() }],
        ..Default::default()
    })
}

fn filter(name: &str, config: Any) -> HttpFilter {
    let config_type = Some(ConfigType::TypedConfig(config));
    HttpFilter { name: name.to_owned(), is_optional: false, disabled: false, config_type }
}

/// What a manager says.
pub(super) struct Read {
    pub(super) routes: RouteSource,
    pub(super) http: HttpOptions,
    pub(super) authz: Authz,
}

/// Reads a manager.
pub(super) fn read(out: &mut Report, at: &At<'_>, any: &Any) -> Option<Read> {
    let HttpConnectionManager {
        codec_type: _,
        stat_prefix: _,
        http_filters,
        add_user_agent,
        tracing,
        common_http_protocol_options,
        http1_safe_max_connection_duration,
        http_protocol_options,
        http2_protocol_options,
        http3_protocol_options,
        server_name,
        server_header_transformation,
        scheme_header_transformation,
        max_request_headers_kb,
        stream_idle_timeout,
        stream_flush_timeout,
        request_timeout,
        request_headers_timeout,
        drain_timeout,
        drain_timeout_jitter,
        delayed_close_timeout,
        access_log,
        access_log_flush_interval,
        flush_access_log_on_new_request,
        access_log_options,
        use_remote_address,
        xff_num_trusted_hops,
        original_ip_detection_extensions,
        early_header_mutation_extensions,
        internal_address_config,
        skip_xff_append,
        via,
        generate_request_id,
        preserve_external_request_id,
        always_set_request_id_in_response,
        forward_client_cert_details,
        set_current_client_cert_details,
        forward_client_cert_matcher,
        proxy_100_continue,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        upgrade_configs,
        normalize_path,
        merge_slashes,
        path_with_escaped_slashes_action,
        request_id_extension,
        local_reply_config,
        strip_matching_host_port,
        stream_error_on_invalid_http_message,
        path_normalization_options,
        strip_trailing_host_dot,
        proxy_status_config,
        typed_header_validation_config,
        append_x_forwarded_port,
        append_local_overload,
        add_proxy_protocol_connection_state,
        forward_proto_config,
        route_specifier,
        strip_port_mode,
    } = unpack(out, at, any)?;
    unsupported!(out, at; scheme_header_transformation, early_header_mutation_extensions, local_reply_config,
        path_normalization_options, merge_slashes, path_with_escaped_slashes_action, strip_matching_host_port,
        strip_trailing_host_dot, strip_port_mode, typed_header_validation_config, forward_client_cert_matcher,
        original_ip_detection_extensions, xff_num_trusted_hops);
    ignored!(out, at; add_user_agent, tracing, http1_safe_max_connection_duration, http_protocol_options,
        http2_protocol_options, http3_protocol_options, server_name, server_header_transformation,
        max_request_headers_kb, stream_flush_timeout, drain_timeout, drain_timeout_jitter, delayed_close_timeout,
        access_log, access_log_flush_interval, flush_access_log_on_new_request, access_log_options,
        use_remote_address, internal_address_config, skip_xff_append, via, generate_request_id,
        preserve_external_request_id, always_set_request_id_in_response, forward_client_cert_details,
        set_current_client_cert_details, proxy_100_continue, represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        normalize_path, request_id_extension, stream_error_on_invalid_http_message, proxy_status_config,
        append_x_forwarded_port, append_local_overload, add_proxy_protocol_connection_state, forward_proto_config);
    if read_positive(out, at, "request_timeout", request_timeout).is_some() {
        out.refuse(&at.field("request_timeout"), "is not supported");
    }
    let common = common_http_protocol_options.unwrap_or_default();
    let max_connection_age = read_common(out, &at.field("common_http_protocol_options"), common);
    for (i, upgrade) in upgrade_configs.iter().enumerate() {
        out.unsupported(&at.item("upgrade_configs", i), "filters", &upgrade.filters);
    }
    let http = HttpOptions {
        stream_idle_timeout: match read_duration(out, at, "stream_idle_timeout", stream_idle_timeout) {
            Some(Duration::ZERO) => None,
            Some(d) => Some(d),
            None => Some(DEFAULT_STREAM_IDLE),
        },
        request_headers_timeout: read_positive(out, at, "request_headers_timeout", request_headers_timeout),
        max_connection_age,
    };
    let authz = read_filters(out, at, http_filters);
    Some(Read { routes: read_routes(out, at, route_specifier)?, http, authz })
}

fn read_common(out: &mut Report, at: &At<'_>, sent: pb::core::HttpProtocolOptions) -> Option<Duration> {
    let pb::core::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action,
        max_requests_per_connection,
    } = sent;
    unsupported!(out, at; max_stream_duration, headers_with_underscores_action);
    ignored!(out, at; idle_timeout, max_connection_duration_jitter, max_headers_count, max_response_headers_kb,
        max_requests_per_connection);
    read_positive(out, at, "max_connection_duration", max_connection_duration)
}

fn read_routes(out: &mut Report, at: &At<'_>, sent: Option<RouteSpecifier>) -> Option<RouteSource> {
    match sent {
        Some(RouteSpecifier::Rds(Rds { config_source, route_config_name })) => {
            let at = at.field("rds");
            read_ads(out, &at.field("config_source"), config_source);
            out.name(&at.field("route_config_name"), route_config_name).map(RouteSource::Rds)
        }
        Some(RouteSpecifier::RouteConfig(mut config)) => {
            if config.name.is_empty() {
                "inline".clone_into(&mut config.name);
            }
            route::read(out, &at.field("route_config"), config).map(|c| RouteSource::Inline(Arc::new(c)))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) | None => {
            out.refuse(at, "has no `rds` or `route_config`");
            None
        }
    }
}

/// The router must be there and be the last (gRFC A39).
fn read_filters(out: &mut Report, at: &At<'_>, sent: Vec<HttpFilter>) -> Authz {
    let mut authz = Authz::default();
    if !out.within(at, "http_filters", &sent, limits::FILTERS) {
        return authz;
    }
    let last = sent.len().checked_sub(1);
    let mut routed = None;
    for (i, f) in sent.into_iter().enumerate() {
        let at = at.item("http_filters", i);
        let HttpFilter { name, is_optional, disabled, config_type } = f;
        let Some(ConfigType::TypedConfig(any)) = config_type else {
            out.refuse(&at, "has no `typed_config`");
            continue;
        };
        if disabled {
            out.refuse(&at.field("disabled"), "is not supported");
        } else if any.type_url == pb::router::Router::type_url() {
            routed = Some(i);
            if any.value.as_slice() != pb::router::Router::default().encode_to_vec() {
                out.note(&at, "the router's options are ignored");
            }
        } else if any.type_url == pb::fault::HttpFault::type_url() {
            fault::read_filter(out, &at, &any);
        } else if any.type_url == pb::http_rbac::Rbac::type_url() {
            if let Some(rbac) = unpack(out, &at, &any) {
                authz::read_http(out, &at, &mut authz, rbac);
            }
        } else if is_optional {
            out.note(&at, format!("the optional filter `{}` is ignored", shown(&name)));
        } else {
            out.refuse(&at, format!("the filter `{}` ({}) is not supported", shown(&name), shown(&any.type_url)));
        }
    }
    if routed.is_none() || routed != last {
        out.refuse(&at.field("http_filters"), "the last filter is not the router");
    }
    authz
}
