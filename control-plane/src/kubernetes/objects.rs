//! Objects of the cluster, with no more of them than matters here: the rest is not even read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A `v1/Pod`.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
pub struct Pod {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(default)]
    pub spec: PodSpec,
    /// How it is.
    #[serde(default)]
    pub status: PodStatus,
}

/// See [`Pod`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Its service account.
    pub service_account_name: Option<String>,
    /// The node that it runs on.
    pub node_name: Option<String>,
    /// Whether its addresses are those of its node.
    pub host_network: bool,
    /// What runs.
    pub containers: Vec<Container>,
    /// What runs before, or (native sidecars) beside.
    pub init_containers: Vec<Container>,
}

/// See [`PodSpec`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The ports that it declares.
    pub ports: Vec<ContainerPort>,
}

/// See [`Container`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name.
    pub name: Option<String>,
    /// Its number.
    pub container_port: u16,
    /// `TCP` unless written.
    pub protocol: Option<String>,
}

/// See [`Pod`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: Option<String>,
    /// Its first address.
    #[serde(rename = "podIP")]
    pub address: Option<String>,
    /// What is true of it.
    pub conditions: Vec<PodCondition>,
}

/// See [`PodStatus`].
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PodCondition {
    /// `Ready`, for one.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
}

/// A `discovery.k8s.io/v1/EndpointSlice`.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::discovery::v1::EndpointSlice)]
pub struct EndpointSlice {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Who is in it. (`null` where it is empty.)
    #[serde(default)]
    pub endpoints: Option<Vec<Endpoint>>,
    /// The ports of all of them.
    #[serde(default)]
    pub ports: Option<Vec<EndpointPort>>,
}

/// See [`EndpointSlice`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its addresses; the first counts.
    pub addresses: Vec<String>,
    /// How it is.
    pub conditions: Conditions,
    /// What stands behind it.
    pub target_ref: Option<TargetRef>,
    /// Where it is.
    pub zone: Option<String>,
    /// The node that it is on.
    pub node_name: Option<String>,
    /// For whom it is meant.
    pub hints: Option<Hints>,
}

/// See [`Endpoint`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// For callers of these zones.
    pub for_zones: Option<Vec<Named>>,
    /// For callers on these nodes (from 1.34 on).
    pub for_nodes: Option<Vec<Named>>,
}

/// A name alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    /// It.
    pub name: String,
}

/// See [`Endpoint`]. What is not said is as it should be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// It gets connections.
    pub ready: Option<bool>,
    /// It could take connections, whether it ends or not.
    pub serving: Option<bool>,
    /// It ends.
    pub terminating: Option<bool>,
}

/// See [`Endpoint`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// `Pod`, mostly.
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

/// See [`EndpointSlice`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// The name of the Service's port; empty where it has one without a name.
    pub name: Option<String>,
    /// The number behind it.
    pub port: Option<u16>,
    /// `TCP` unless written.
    pub protocol: Option<String>,
}

/// Labels of an object.
pub(super) fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref().and_then(|labels: &BTreeMap<String, String>| labels.get(name)).map(String::as_str)
}
