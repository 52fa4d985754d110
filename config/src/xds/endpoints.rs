//! Endpoints ⇄ Envoy's `ClusterLoadAssignment` (gRFC A27: locality and its weight are set, priorities have no gap).
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    limits,
    wire::{At, Report, ignored, number, pb, unsupported},
};
use crate::model::{Endpoint, Endpoints, Health, Locality};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind as ValueKind};
use pb::core::{HealthStatus, address::Address as PbAddress, socket_address::PortSpecifier};
use pb::endpoint::{LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier};
use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
};

/// By this an endpoint says which transport socket it needs (Envoy), in Istio's words.
pub(super) const SOCKET_MATCH: &str = "envoy.transport_socket_match";
const TLS_MODE: &str = "tlsMode";
const DISABLED: &str = "disabled";

/// An assignment.
pub(super) fn assignment(e: &Endpoints) -> pb::endpoint::ClusterLoadAssignment {
    pb::endpoint::ClusterLoadAssignment {
        cluster_name: e.name.to_string(),
        endpoints: e.localities.iter().map(locality).collect(),
        ..Default::default()
    }
}

fn locality(l: &Locality) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(pb::core::Locality { region: l.region.clone(), zone: l.zone.clone(), sub_zone: String::new() }),
        lb_endpoints: l.endpoints.iter().map(endpoint).collect(),
        load_balancing_weight: number(l.weight),
        priority: l.priority,
        ..Default::default()
    }
}

fn endpoint(e: &Endpoint) -> LbEndpoint {
    let health = match e.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    LbEndpoint {
        health_status: health.into(),
        metadata: (!e.mesh).then(|| pb::core::Metadata {
            filter_metadata: [(SOCKET_MATCH.to_owned(), plain_text())].into(),
            ..Default::default()
        }),
        load_balancing_weight: number(e.weight),
        host_identifier: Some(HostIdentifier::Endpoint(pb::endpoint::Endpoint {
            address: Some(address(e.address)),
            hostname: e.workload.to_string(),
            ..Default::default()
        })),
    }
}

/// What an endpoint without a sidecar says of itself. An endpoint that says nothing is called with TLS where its cluster
/// has it: what is forgotten must not become plain text.
pub(super) fn plain_text() -> Struct {
    let disabled = Value { kind: Some(ValueKind::StringValue(DISABLED.into())) };
    Struct { fields: [(TLS_MODE.to_owned(), disabled)].into() }
}

/// The assignment of a host by its name.
pub(super) fn named(cluster: &str, host: &str, port: u16) -> pb::endpoint::ClusterLoadAssignment {
    let address = pb::core::Address {
        address: Some(PbAddress::SocketAddress(pb::core::SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    };
    let endpoint = pb::endpoint::Endpoint { address: Some(address), ..Default::default() };
    let one = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
    pb::endpoint::ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![locality],
        ..Default::default()
    }
}

/// Reads the assignment of one host by its name.
pub(super) fn read_named(
    out: &mut Report,
    at: &At<'_>,
    sent: pb::endpoint::ClusterLoadAssignment,
) -> Option<(std::sync::Arc<str>, u16)> {
    let mut all = sent.endpoints.into_iter().flat_map(|l| l.lb_endpoints);
    let (Some(LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(one)), .. }), None) =
        (all.next(), all.next())
    else {
        out.refuse(&at.field("endpoints"), "are not one endpoint by its name, which alone is supported");
        return None;
    };
    let at = at.field("endpoints[0].lb_endpoints[0].endpoint.address");
    let Some(PbAddress::SocketAddress(sent)) = one.address.and_then(|a| a.address) else {
        out.refuse(&at, "has no `socket_address`");
        return None;
    };
    let Some(PortSpecifier::PortValue(port)) = sent.port_specifier else {
        out.refuse(&at, "has no port");
        return None;
    };
    match u16::try_from(port) {
        Ok(port) if port != 0 => Some((out.name(&at.field("address"), sent.address)?, port)),
        _ => {
            out.refuse(&at, "has no port between 1 and 65,535");
            None
        }
    }
}

/// A TCP address.
pub(super) fn address(a: SocketAddr) -> pb::core::Address {
    pb::core::Address {
        address: Some(PbAddress::SocketAddress(pb::core::SocketAddress {
            address: a.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(a.port().into())),
            ..Default::default()
        })),
    }
}

/// Reads an assignment.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: pb::endpoint::ClusterLoadAssignment) -> Option<Endpoints> {
    let pb::endpoint::ClusterLoadAssignment { cluster_name, endpoints, named_endpoints, policy } = sent;
    unsupported!(out, at; named_endpoints);
    if let Some(p) = policy {
        read_policy(out, &at.field("policy"), p);
    }
    let count = endpoints.iter().map(|l| l.lb_endpoints.len()).sum::<usize>();
    if count > limits::ENDPOINTS {
        out.refuse(at, format!("has {count} endpoints; the limit is {}", limits::ENDPOINTS));
        return None;
    }
    if !out.within(at, "endpoints", &endpoints, limits::LOCALITIES) {
        return None;
    }
    let mut seen = HashSet::with_capacity(count);
    let localities = endpoints.into_iter().enumerate();
    let localities: Vec<_> =
        localities.filter_map(|(i, l)| read_locality(out, &at.item("endpoints", i), l, &mut seen)).collect();
    let priorities: BTreeSet<u32> = localities.iter().map(|l| l.priority).collect();
    if priorities.last().is_some_and(|last| *last as usize + 1 != priorities.len()) {
        out.refuse(&at.field("endpoints"), "the priorities do not start at 0 or have a gap");
    }
    for priority in priorities {
        let weights = localities.iter().filter(|l| l.priority == priority).map(|l| u64::from(l.weight));
        if weights.sum::<u64>() > u32::MAX.into() {
            out.refuse(&at.field("endpoints"), "the weights of the localities of one priority exceed 4,294,967,295");
        }
    }
    Some(Endpoints { name: out.name(&at.field("cluster_name"), cluster_name)?, localities })
}

fn read_policy(out: &mut Report, at: &At<'_>, sent: pb::endpoint::cluster_load_assignment::Policy) {
    let pb::endpoint::cluster_load_assignment::Policy {
        drop_overloads,
        overprovisioning_factor,
        endpoint_stale_after,
        weighted_priority_health,
    } = sent;
    unsupported!(out, at; drop_overloads);
    ignored!(out, at; overprovisioning_factor, endpoint_stale_after, weighted_priority_health);
}

fn read_locality(
    out: &mut Report,
    at: &At<'_>,
    sent: LocalityLbEndpoints,
    seen: &mut HashSet<SocketAddr>,
) -> Option<Locality> {
    let LocalityLbEndpoints { locality, metadata, lb_endpoints, load_balancing_weight, priority, proximity, lb_config } =
        sent;
    unsupported!(out, at; lb_config);
    ignored!(out, at; metadata, proximity);
    // The sub-zone is finer than what is balanced by.
    let pb::core::Locality { region, zone, sub_zone: _ } = locality.unwrap_or_default();
    let weight = load_balancing_weight.map_or(1, |w| w.value);
    if weight == 0 {
        out.refuse(&at.field("load_balancing_weight"), "is zero");
    }
    let mut endpoints = Vec::with_capacity(lb_endpoints.len());
    for (i, e) in lb_endpoints.into_iter().enumerate() {
        let at = at.item("lb_endpoints", i);
        let Some(e) = read_endpoint(out, &at, e) else { continue };
        if !seen.insert(e.address) {
            out.refuse(&at, format!("the address {} occurs twice in this cluster", e.address));
        }
        endpoints.push(e);
    }
    let at = at.field("locality");
    Some(Locality {
        region: out.text(&at.field("region"), region)?,
        zone: out.text(&at.field("zone"), zone)?,
        priority,
        weight,
        endpoints,
    })
}

fn read_endpoint(out: &mut Report, at: &At<'_>, sent: LbEndpoint) -> Option<Endpoint> {
    let LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = sent;
    let Some(HostIdentifier::Endpoint(endpoint)) = host_identifier else {
        out.refuse(at, "has no `endpoint`");
        return None;
    };
    let pb::endpoint::Endpoint { address, health_check_config, hostname, additional_addresses, observability_name: _ } =
        endpoint;
    ignored!(out, at; health_check_config, additional_addresses);
    let health = match HealthStatus::try_from(health_status) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded) => Health::Healthy,
        Ok(HealthStatus::Draining) => Health::Draining,
        // What a newer control plane may call it is no reason to send requests there.
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) | Err(_) => Health::Unhealthy,
    };
    let weight = load_balancing_weight.map_or(1, |w| w.value);
    if weight == 0 {
        out.refuse(&at.field("load_balancing_weight"), "is zero");
    }
    let address = read_address(out, &at.field("endpoint.address"), address)?;
    let workload = out.text(&at.field("endpoint.hostname"), hostname)?.into();
    Some(Endpoint { address, weight, health, workload, mesh: !says_plain_text(metadata.as_ref()) })
}

fn says_plain_text(metadata: Option<&pb::core::Metadata>) -> bool {
    let mode = metadata.and_then(|m| m.filter_metadata.get(SOCKET_MATCH)).and_then(|s| s.fields.get(TLS_MODE));
    matches!(mode, Some(Value { kind: Some(ValueKind::StringValue(mode)) }) if mode == DISABLED)
}

/// Reads a TCP address with a number for a host and a port.
fn read_address(out: &mut Report, at: &At<'_>, sent: Option<pb::core::Address>) -> Option<SocketAddr> {
    let Some(PbAddress::SocketAddress(sent)) = sent.and_then(|a| a.address) else {
        out.refuse(at, "has no `socket_address`");
        return None;
    };
    let pb::core::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat: _,
        network_namespace_filepath,
        port_specifier,
    } = sent;
    unsupported!(out, at; protocol, resolver_name, network_namespace_filepath);
    let port = match port_specifier {
        Some(PortSpecifier::PortValue(p)) => u16::try_from(p).ok().filter(|p| *p != 0),
        Some(PortSpecifier::NamedPort(_)) | None => None,
    };
    match (address.parse::<IpAddr>(), port) {
        (Ok(ip), Some(port)) => Some(SocketAddr::new(ip, port)),
        _ => {
            out.refuse(at, "is not an IP address with a port between 1 and 65,535");
            None
        }
    }
}
