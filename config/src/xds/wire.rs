//! What all translations share: short names for Envoy's packages, the field path, the list of issues, durations,
//! packed messages, and where secrets and resources come from.

use super::{XdsIssue, limits};
use crate::model::{Fraction, ResourceName, SafeRegex};
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as PbDuration, UInt32Value};
use prost::{Message, Name};
use std::{collections::HashMap, fmt, time::Duration};

/// Envoy's packages under short names.
pub(super) mod pb {
    pub use envoy_types::pb::envoy::config::{
        cluster::v3 as cluster, core::v3 as core, endpoint::v3 as endpoint, listener::v3 as listener, rbac::v3 as rbac,
        route::v3 as route,
    };
    pub use envoy_types::pb::envoy::extensions::{
        filters::common::fault::v3 as fault_common,
        filters::http::{fault::v3 as fault, rbac::v3 as http_rbac, router::v3 as router},
        filters::listener::{http_inspector::v3 as http_inspector, tls_inspector::v3 as tls_inspector},
        filters::network::{http_connection_manager::v3 as hcm, rbac::v3 as network_rbac, tcp_proxy::v3 as tcp_proxy},
        load_balancing_policies::{
            common::v3 as lb_common, least_request::v3 as least_request, round_robin::v3 as round_robin,
            wrr_locality::v3 as wrr_locality,
        },
        retry::host::previous_hosts::v3 as previous_hosts,
        transport_sockets::{raw_buffer::v3 as raw_buffer, tls::v3 as tls},
        upstreams::http::v3 as upstream_http,
    };
    pub use envoy_types::pb::envoy::r#type::{matcher::v3 as matcher, v3 as ty};
}

/// Where in a message we are; becomes text only when there is something to say.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    field: &'a str,
    index: Option<usize>,
}

impl<'a> At<'a> {
    /// The message itself.
    pub(super) const ROOT: At<'static> = At { parent: None, field: "", index: None };

    /// A field of it.
    pub(super) fn field(&'a self, field: &'a str) -> At<'a> {
        At { parent: Some(self), field, index: None }
    }

    /// One of a repeated field of it.
    pub(super) fn item(&'a self, field: &'a str, index: usize) -> At<'a> {
        At { parent: Some(self), field, index: Some(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if !parent.field.is_empty() {
                f.write_str(".")?;
            }
        }
        f.write_str(self.field)?;
        self.index.map_or(Ok(()), |i| write!(f, "[{i}]"))
    }
}

/// What was found wrong or without effect in one resource.
#[derive(Default)]
pub(super) struct Report {
    pub(super) issues: Vec<XdsIssue>,
    pub(super) notes: Vec<XdsIssue>,
    regexes: usize,
}

impl Report {
    /// The resource cannot be accepted.
    pub(super) fn refuse(&mut self, at: &At<'_>, message: impl Into<String>) {
        push(&mut self.issues, at, message);
    }

    /// Something has no effect.
    pub(super) fn note(&mut self, at: &At<'_>, message: impl Into<String>) {
        push(&mut self.notes, at, message);
    }

    /// A field that would change what happens to traffic, or who may do what: refused where it is set.
    pub(super) fn unsupported(&mut self, at: &At<'_>, field: &str, value: &impl IsSet) {
        if value.is_set() {
            self.refuse(&at.field(field.trim_start_matches("r#")), "is not supported");
        }
    }

    /// A field without bearing on traffic: noted where it is set.
    pub(super) fn ignored(&mut self, at: &At<'_>, field: &str, value: &impl IsSet) {
        if value.is_set() {
            self.note(&at.field(field.trim_start_matches("r#")), "is ignored");
        }
    }

    /// Refuses a list that is too long; `true` if it may be read.
    pub(super) fn within<T>(&mut self, at: &At<'_>, field: &str, list: &[T], limit: usize) -> bool {
        if list.len() > limit {
            self.refuse(&at.field(field), format!("has {} entries; the limit is {limit}", list.len()));
        }
        list.len() <= limit
    }

    /// Compiles a pattern, while there are not too many.
    pub(super) fn regex(&mut self, at: &At<'_>, pattern: String) -> Option<SafeRegex> {
        self.regexes += 1;
        if self.regexes > limits::REGEXES {
            self.refuse(at, format!("is one regular expression too many; the limit is {}", limits::REGEXES));
            return None;
        }
        SafeRegex::new(pattern).map_err(|e| self.refuse(at, e.to_string())).ok()
    }

    /// A text of bounded length without control characters.
    pub(super) fn text(&mut self, at: &At<'_>, text: String) -> Option<String> {
        if text.len() > limits::TEXT_BYTES {
            self.refuse(at, format!("is longer than {} bytes", limits::TEXT_BYTES));
        } else if text.chars().any(char::is_control) {
            self.refuse(at, "contains a control character");
        } else {
            return Some(text);
        }
        None
    }

    /// The name of a resource: a text that is not empty.
    pub(super) fn name(&mut self, at: &At<'_>, text: String) -> Option<ResourceName> {
        if text.is_empty() {
            self.refuse(at, "is required");
            return None;
        }
        self.text(at, text).map(Into::into)
    }
}

fn push(list: &mut Vec<XdsIssue>, at: &At<'_>, message: impl Into<String>) {
    if list.len() < limits::ISSUES {
        let field = at.to_string();
        let field = if field.is_empty() { "resource".to_owned() } else { field };
        list.push(XdsIssue { field, message: message.into() });
    } else if let Some(last) = list.last_mut() {
        "and more".clone_into(&mut last.message);
    }
}

/// Whether a field of a message differs from its absence.
pub(super) trait IsSet {
    fn is_set(&self) -> bool;
}

impl<T> IsSet for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T> IsSet for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V> IsSet for HashMap<K, V> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for bool {
    fn is_set(&self) -> bool {
        *self
    }
}

impl IsSet for i32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

impl IsSet for u32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

/// Passes fields on to [`Report::unsupported`] under their own names.
macro_rules! unsupported {
    ($out:expr, $at:expr; $($field:ident),* $(,)?) => { $( $out.unsupported($at, stringify!($field), &$field); )* };
}
/// Passes fields on to [`Report::ignored`] under their own names.
macro_rules! ignored {
    ($out:expr, $at:expr; $($field:ident),* $(,)?) => { $( $out.ignored($at, stringify!($field), &$field); )* };
}
pub(super) use {ignored, unsupported};

/// `Some(true)`, where a missing wrapper means false.
pub(super) fn is_true(value: Option<BoolValue>) -> bool {
    value.is_some_and(|v| v.value)
}

/// A wrapped boolean.
pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A wrapped number.
pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A duration, at most [`limits::DURATION_SECONDS`].
pub(super) fn duration(d: Duration) -> PbDuration {
    let d = d.min(Duration::from_secs(limits::DURATION_SECONDS));
    PbDuration { seconds: d.as_secs().cast_signed(), nanos: d.subsec_nanos().cast_signed() }
}

/// A duration that was sent; refuses what is negative, malformed or beyond [`limits::DURATION_SECONDS`].
pub(super) fn read_duration(out: &mut Report, at: &At<'_>, field: &str, sent: Option<PbDuration>) -> Option<Duration> {
    let PbDuration { seconds, nanos } = sent?;
    let parts = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    match parts {
        Some((s, n)) if s <= limits::DURATION_SECONDS && n < 1_000_000_000 => Some(Duration::new(s, n)),
        _ => {
            out.refuse(&at.field(field), "is not a duration between 0 s and ten years");
            None
        }
    }
}

/// As [`read_duration`], where zero means "none".
pub(super) fn read_positive(out: &mut Report, at: &At<'_>, field: &str, sent: Option<PbDuration>) -> Option<Duration> {
    read_duration(out, at, field, sent).filter(|d| !d.is_zero())
}

/// A share as parts per million.
pub(super) fn fraction(f: Fraction) -> pb::ty::FractionalPercent {
    pb::ty::FractionalPercent {
        numerator: f.millionths(),
        denominator: pb::ty::fractional_percent::DenominatorType::Million.into(),
    }
}

/// A share; above the whole it is the whole, as in Envoy.
pub(super) fn read_fraction(out: &mut Report, at: &At<'_>, sent: pb::ty::FractionalPercent) -> Option<Fraction> {
    use pb::ty::fractional_percent::DenominatorType as D;
    let pb::ty::FractionalPercent { numerator, denominator } = sent;
    let factor = match D::try_from(denominator) {
        Ok(D::Hundred) => 10_000,
        Ok(D::TenThousand) => 100,
        Ok(D::Million) => 1,
        Err(_) => {
            out.refuse(&at.field("denominator"), "is not known");
            return None;
        }
    };
    Fraction::from_millionths(numerator.saturating_mul(factor).min(1_000_000))
}

/// A percentage 0 to 100, rounded to the next whole number.
pub(super) fn read_percent(out: &mut Report, at: &At<'_>, sent: pb::ty::Percent) -> Option<u8> {
    if (0.0..=100.0).contains(&sent.value) {
        return Some(sent.value.round() as u8);
    }
    out.refuse(at, "is not between 0 and 100");
    None
}

/// A message in its envelope.
pub(super) fn pack<T: Message + Name>(message: &T) -> Any {
    Any { type_url: T::type_url(), value: message.encode_to_vec() }
}

/// The message in an envelope, which must be of the type asked for.
pub(super) fn unpack<T: Message + Name + Default>(out: &mut Report, at: &At<'_>, any: &Any) -> Option<T> {
    if any.type_url != T::type_url() {
        out.refuse(at, format!("has type `{}`; `{}` is supported", shown(&any.type_url), T::type_url()));
        return None;
    }
    T::decode(any.value.as_slice()).map_err(|e| out.refuse(at, format!("cannot be read: {e}"))).ok()
}

/// A text from the network, shortened for an issue.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(200).filter(|c| !c.is_control()).collect()
}

/// "From the stream this came by."
pub(super) fn ads() -> pb::core::ConfigSource {
    pb::core::ConfigSource {
        resource_api_version: pb::core::ApiVersion::V3.into(),
        config_source_specifier: Some(pb::core::config_source::ConfigSourceSpecifier::Ads(
            pb::core::AggregatedConfigSource {},
        )),
        ..Default::default()
    }
}

/// Accepts "from the stream this came by" and nothing else.
pub(super) fn read_ads(out: &mut Report, at: &At<'_>, sent: Option<pb::core::ConfigSource>) {
    use pb::core::config_source::ConfigSourceSpecifier as S;
    let Some(sent) = sent else { return out.refuse(at, "is required") };
    let pb::core::ConfigSource { authorities, initial_fetch_timeout, resource_api_version: _, config_source_specifier } =
        sent;
    unsupported!(out, at; authorities);
    ignored!(out, at; initial_fetch_timeout);
    if !matches!(config_source_specifier, Some(S::Ads(_) | S::Self_(_))) {
        out.refuse(at, "is not `ads` or `self`");
    }
}
