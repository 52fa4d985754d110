//! Envoy's contrib load balancing policy `PeakEwma`, which no ready-made crate carries.

use envoy_types::pb::google::protobuf::{DoubleValue, Duration, UInt32Value};

/// `envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma`
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeakEwma {
    /// The window of the average; 10 s if absent.
    #[prost(message, optional, tag = "1")]
    pub decay_time: Option<Duration>,
    /// How often Envoy's threads exchange their averages.
    #[prost(message, optional, tag = "2")]
    pub aggregation_interval: Option<Duration>,
    /// How many samples Envoy buffers.
    #[prost(message, optional, tag = "3")]
    pub max_samples_per_host: Option<UInt32Value>,
    /// What an endpoint is taken for before its first answer; 10 ms if absent.
    #[prost(message, optional, tag = "4")]
    pub default_rtt: Option<Duration>,
    /// The cost of an endpoint without a measurement.
    #[prost(message, optional, tag = "5")]
    pub penalty_value: Option<DoubleValue>,
}

/// Its type URL.
pub const PEAK_EWMA: &str = "type.googleapis.com/envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma";
