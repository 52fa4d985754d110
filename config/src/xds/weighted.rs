//! Weighted destinations ⇄ Envoy's `cluster` and `weighted_clusters` (gRFC A28).
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    headers, limits,
    wire::{At, Report, ignored, number, pb, unsupported},
};
use crate::model::{HeaderMutations, WeightedCluster};
use pb::route::{route_action::ClusterSpecifier, weighted_cluster::ClusterWeight};

/// One destination with nothing of its own is named alone, others as a list.
pub(super) fn clusters(clusters: &[WeightedCluster]) -> ClusterSpecifier {
    match clusters {
        [only] if only.weight == 1 && only.request_headers.is_empty() && only.response_headers.is_empty() => {
            ClusterSpecifier::Cluster(only.name.to_string())
        }
        several => ClusterSpecifier::WeightedClusters(pb::route::WeightedCluster {
            clusters: several.iter().map(weighted).collect(),
            ..Default::default()
        }),
    }
}

fn weighted(c: &WeightedCluster) -> ClusterWeight {
    let (request_headers_to_add, request_headers_to_remove) = headers::mutations(&c.request_headers);
    let (response_headers_to_add, response_headers_to_remove) = headers::mutations(&c.response_headers);
    ClusterWeight {
        name: c.name.to_string(),
        weight: number(c.weight),
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        ..Default::default()
    }
}

/// Reads destinations; the sum of their weights is 1 to `u32::MAX`.
pub(super) fn read(out: &mut Report, at: &At<'_>, sent: Option<ClusterSpecifier>) -> Option<Vec<WeightedCluster>> {
    let field = match sent {
        Some(ClusterSpecifier::Cluster(name)) => {
            let name = out.name(&at.field("cluster"), name)?;
            let none = HeaderMutations::default;
            return Some(vec![WeightedCluster { name, weight: 1, request_headers: none(), response_headers: none() }]);
        }
        Some(ClusterSpecifier::WeightedClusters(list)) => return read_list(out, &at.field("weighted_clusters"), list),
        Some(ClusterSpecifier::ClusterHeader(_)) => "cluster_header",
        Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => "cluster_specifier_plugin",
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => "inline_cluster_specifier_plugin",
        None => "cluster",
    };
    out.refuse(&at.field(field), "is missing or not supported");
    None
}

fn read_list(out: &mut Report, at: &At<'_>, sent: pb::route::WeightedCluster) -> Option<Vec<WeightedCluster>> {
    let pb::route::WeightedCluster { clusters, total_weight, runtime_key_prefix, random_value_specifier } = sent;
    unsupported!(out, at; random_value_specifier);
    ignored!(out, at; runtime_key_prefix);
    if !out.within(at, "clusters", &clusters, limits::WEIGHTED_CLUSTERS) {
        return None;
    }
    let list = clusters.into_iter().enumerate();
    let list: Vec<_> = list.filter_map(|(i, c)| read_one(out, &at.item("clusters", i), c)).collect();
    let sum = list.iter().map(|c| u64::from(c.weight)).sum::<u64>();
    if sum == 0 || sum > u32::MAX.into() {
        out.refuse(&at.field("clusters"), "the sum of the weights is not between 1 and 4,294,967,295");
        return None;
    }
    if total_weight.is_some_and(|w| u64::from(w.value) != sum) {
        out.refuse(&at.field("total_weight"), "is not the sum of the weights");
    }
    Some(list)
}

fn read_one(out: &mut Report, at: &At<'_>, sent: ClusterWeight) -> Option<WeightedCluster> {
    let ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = sent;
    unsupported!(out, at; cluster_header, metadata_match, typed_per_filter_config, host_rewrite_specifier);
    let request_headers = headers::read(
        out,
        at,
        ("request_headers_to_add", request_headers_to_add),
        ("request_headers_to_remove", request_headers_to_remove),
    );
    let response_headers = headers::read(
        out,
        at,
        ("response_headers_to_add", response_headers_to_add),
        ("response_headers_to_remove", response_headers_to_remove),
    );
    let name = out.name(&at.field("name"), name)?;
    Some(WeightedCluster { name, weight: weight.map_or(0, |w| w.value), request_headers, response_headers })
}
