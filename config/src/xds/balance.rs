//! How an endpoint is chosen ⇄ Envoy's `load_balancing_policy` list, of which the first known one is taken (gRFC A52),
//! and the older `lb_policy`.

use super::{
    Class, PEAK_EWMA, PeakEwma,
    wire::{At, Report, duration, ignored, number, pack, pb, read_positive, shown, unpack, unsupported},
};
use crate::model::LoadBalancing;
use envoy_types::pb::google::protobuf::Any;
use pb::cluster::{LoadBalancingPolicy, cluster::LbPolicy, load_balancing_policy::Policy};
use pb::lb_common::{LocalityLbConfig, locality_lb_config as by_locality};
use prost::{Message, Name};
use std::time::Duration;

const LEAST_REQUEST_CHOICES: u32 = 2;
/// How deep policies may be nested.
const DEPTH: usize = 4;

/// The wished policy first, then what those take who do not know it. Last is round robin over weighted localities, which
/// has two shapes: gRPC weighs localities by `wrr_locality` alone, and Envoy refuses a round robin inside of that.
pub(super) fn policies(lb: &LoadBalancing, class: Class) -> LoadBalancingPolicy {
    let last = if class == Class::Grpc { wrr_locality() } else { round_robin() };
    let policies = match lb {
        LoadBalancing::PeakEwma { decay, default_rtt } => {
            let peak_ewma = PeakEwma {
                decay_time: Some(duration(*decay)),
                default_rtt: Some(duration(*default_rtt)),
                ..Default::default()
            };
            let any = Any { type_url: PEAK_EWMA.into(), value: peak_ewma.encode_to_vec() };
            vec![policy("envoy.load_balancing_policies.peak_ewma", any), least_request(LEAST_REQUEST_CHOICES), last]
        }
        LoadBalancing::LeastRequest { choices } => vec![least_request(*choices), last],
        LoadBalancing::RoundRobin => vec![last],
    };
    LoadBalancingPolicy { policies }
}

fn policy(name: &str, config: Any) -> Policy {
    let config = pb::core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) };
    Policy { typed_extension_config: Some(config) }
}

fn least_request(choices: u32) -> Policy {
    let config = pb::least_request::LeastRequest {
        choice_count: number(choices),
        locality_lb_config: by_locality_weight(),
        ..Default::default()
    };
    policy("envoy.load_balancing_policies.least_request", pack(&config))
}

fn round_robin() -> Policy {
    let config = pb::round_robin::RoundRobin { locality_lb_config: by_locality_weight(), ..Default::default() };
    policy("envoy.load_balancing_policies.round_robin", pack(&config))
}

fn by_locality_weight() -> Option<LocalityLbConfig> {
    let weighted = by_locality::LocalityWeightedLbConfig {};
    let specifier = by_locality::LocalityConfigSpecifier::LocalityWeightedLbConfig(weighted);
    Some(LocalityLbConfig { locality_config_specifier: Some(specifier) })
}

fn wrr_locality() -> Policy {
    let inner = policy("envoy.load_balancing_policies.round_robin", pack(&pb::round_robin::RoundRobin::default()));
    let config =
        pb::wrr_locality::WrrLocality { endpoint_picking_policy: Some(LoadBalancingPolicy { policies: vec![inner] }) };
    policy("envoy.load_balancing_policies.wrr_locality", pack(&config))
}

/// Reads the list, or the older field where there is none.
pub(super) fn read(
    out: &mut Report,
    at: &At<'_>,
    list: Option<LoadBalancingPolicy>,
    old: i32,
    old_config: Option<pb::cluster::cluster::LbConfig>,
) -> Option<LoadBalancing> {
    use pb::cluster::cluster::LbConfig as Old;
    if let Some(list) = list {
        return read_list(out, &at.field("load_balancing_policy"), list, DEPTH);
    }
    let at = at.field("lb_policy");
    match (LbPolicy::try_from(old), old_config) {
        (Ok(LbPolicy::RoundRobin), None | Some(Old::RoundRobinLbConfig(_))) => Some(LoadBalancing::RoundRobin),
        (Ok(LbPolicy::LeastRequest), None) => Some(LoadBalancing::LeastRequest { choices: LEAST_REQUEST_CHOICES }),
        (Ok(LbPolicy::LeastRequest), Some(Old::LeastRequestLbConfig(c))) => {
            Some(LoadBalancing::LeastRequest { choices: read_choices(out, &at, c.choice_count.map(|n| n.value))? })
        }
        _ => {
            out.refuse(&at, "is not supported");
            None
        }
    }
}

fn read_choices(out: &mut Report, at: &At<'_>, sent: Option<u32>) -> Option<u32> {
    let choices = sent.unwrap_or(LEAST_REQUEST_CHOICES);
    if choices < 2 {
        out.refuse(&at.field("choice_count"), "is less than 2");
        return None;
    }
    if choices > 10 {
        out.note(&at.field("choice_count"), "is taken as 10");
    }
    Some(choices.min(10))
}

fn read_list(out: &mut Report, at: &At<'_>, list: LoadBalancingPolicy, depth: usize) -> Option<LoadBalancing> {
    let LoadBalancingPolicy { policies } = list;
    if !out.within(at, "policies", &policies, 16) {
        return None;
    }
    for (i, p) in policies.into_iter().enumerate() {
        let at = at.item("policies", i);
        let Some(any) = p.typed_extension_config.and_then(|c| c.typed_config) else { continue };
        match any.type_url.as_str() {
            PEAK_EWMA => return read_peak_ewma(out, &at, &any),
            url if url == pb::least_request::LeastRequest::type_url() => return read_least_request(out, &at, &any),
            url if url == pb::round_robin::RoundRobin::type_url() => {
                let pb::round_robin::RoundRobin { slow_start_config, locality_lb_config: _ } = unpack(out, &at, &any)?;
                unsupported!(out, &at; slow_start_config);
                return Some(LoadBalancing::RoundRobin);
            }
            url if url == pb::wrr_locality::WrrLocality::type_url() && depth > 0 => {
                let pb::wrr_locality::WrrLocality { endpoint_picking_policy } = unpack(out, &at, &any)?;
                let at = at.field("endpoint_picking_policy");
                return read_list(out, &at, endpoint_picking_policy.unwrap_or_default(), depth - 1);
            }
            other => out.note(&at, format!("`{}` is not known; the next is taken", shown(other))),
        }
    }
    out.refuse(&at.field("policies"), "has no policy that is supported");
    None
}

fn read_peak_ewma(out: &mut Report, at: &At<'_>, any: &Any) -> Option<LoadBalancing> {
    let sent = PeakEwma::decode(any.value.as_slice());
    let Ok(PeakEwma { decay_time, aggregation_interval, max_samples_per_host, default_rtt, penalty_value }) = sent
    else {
        out.refuse(at, "cannot be read");
        return None;
    };
    ignored!(out, at; aggregation_interval, max_samples_per_host, penalty_value);
    let decay = read_positive(out, at, "decay_time", decay_time).unwrap_or(Duration::from_secs(10));
    let default_rtt = read_positive(out, at, "default_rtt", default_rtt).unwrap_or(Duration::from_millis(10));
    Some(LoadBalancing::PeakEwma { decay, default_rtt })
}

#[allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]
fn read_least_request(out: &mut Report, at: &At<'_>, any: &Any) -> Option<LoadBalancing> {
    let pb::least_request::LeastRequest {
        choice_count,
        active_request_bias,
        slow_start_config,
        locality_lb_config: _,
        enable_full_scan,
        selection_method,
    } = unpack(out, at, any)?;
    unsupported!(out, at; active_request_bias, slow_start_config);
    ignored!(out, at; enable_full_scan, selection_method);
    Some(LoadBalancing::LeastRequest { choices: read_choices(out, at, choice_count.map(|n| n.value))? })
}
