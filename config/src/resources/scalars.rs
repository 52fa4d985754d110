//! The small values that several kinds share: names, labels, ports, durations, shares, patterns, headers.

use super::{
    duration::parse_duration,
    node::{Node, Tree},
    read::{Reader, shorten},
    settings::Switch,
};
use crate::model::{Fraction, SafeRegex};
use http::{HeaderName, HeaderValue};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

const LABEL_REMEDY: &str = "lower-case letters, digits and `-`, a letter or digit at both ends, at most 63";
const NAME_REMEDY: &str = "lower-case letters, digits, `-` and `.`, a letter or digit at both ends, at most 253";

fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_name(text)
}

/// Whether it is a DNS subdomain as Kubernetes has it: a part between dots may have more than 63 characters. (Pods often do.)
pub(super) fn is_name(text: &str) -> bool {
    let good = |part: &str| part.bytes().all(|b| b == b'-' || is_alphanumeric(b));
    let ends = |part: &str| [part.bytes().next(), part.bytes().last()].iter().all(|b| b.is_some_and(is_alphanumeric));
    text.len() <= 253 && text.split('.').all(|part| good(part) && ends(part))
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

impl Reader {
    /// A DNS label (RFC 1123): a namespace, a Service's name, a port's name.
    pub(super) fn label(&mut self, node: &Node) -> Option<String> {
        self.checked(node, is_label, LABEL_REMEDY)
    }

    /// A DNS subdomain: the name of a document, a host.
    pub(super) fn name(&mut self, node: &Node) -> Option<String> {
        self.checked(node, is_name, NAME_REMEDY)
    }

    fn checked(&mut self, node: &Node, good: fn(&str) -> bool, remedy: &str) -> Option<String> {
        let text = self.text(node)?;
        if good(text) {
            return Some(text.to_owned());
        }
        self.issue(node, format!("`{}` is not a valid name", shorten(text)), Some(remedy.into()));
        None
    }

    /// Text of 1 to `max` bytes.
    pub(super) fn words(&mut self, node: &Node, max: usize) -> Option<String> {
        let text = self.text(node)?;
        if (1..=max).contains(&text.len()) {
            return Some(text.to_owned());
        }
        let message =
            if text.is_empty() { "this must not be empty".into() } else { format!("longer than {max} bytes") };
        self.issue(node, message, None);
        None
    }

    /// A port, 1 to 65535.
    pub(super) fn port(&mut self, node: &Node) -> Option<u16> {
        self.whole(node, 1, 65_535).and_then(|n| u16::try_from(n).ok())
    }

    /// A port, or 0 for any.
    pub(super) fn any_port(&mut self, node: &Node) -> Option<u16> {
        self.whole(node, 0, 65_535).and_then(|n| u16::try_from(n).ok())
    }

    /// An IP address.
    pub(super) fn address(&mut self, node: &Node) -> Option<IpAddr> {
        let text = self.text(node)?;
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                let remedy = "an IPv4 or IPv6 address without a port; host names are not resolved".to_owned();
                self.issue(node, format!("`{}` is not an IP address", shorten(text)), Some(remedy));
                None
            }
        }
    }

    /// A map of texts.
    pub(super) fn texts(&mut self, node: &Node) -> Option<BTreeMap<String, String>> {
        let Tree::Map(entries) = &node.tree else { return self.wrong_type(node, "an object with texts") };
        self.few(node, entries.len())?;
        let mut map = BTreeMap::new();
        for e in entries {
            if let Some(value) = self.within(shorten(&e.key), |r| r.text(&e.value).map(ToOwned::to_owned)) {
                map.insert(e.key.clone(), value);
            }
        }
        Some(map)
    }

    /// Labels: names and values as Kubernetes takes them.
    pub(super) fn labels(&mut self, node: &Node) -> Option<BTreeMap<String, String>> {
        let map = self.texts(node)?;
        for (key, value) in &map {
            let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(p, n)| (Some(p), n));
            let at = node.field(key).unwrap_or(node);
            if prefix.is_some_and(|p| !is_name(p)) || name.is_empty() || !is_qualified(name) {
                let remedy = "letters, digits, `-`, `_`, `.`, at most 63, with or without `<dns-name>/` before it";
                let message = format!("`{}` is not a valid label name", shorten(key));
                self.within(shorten(key), |r| r.issue(at, message, Some(remedy.into())));
            } else if !is_qualified(value) {
                let remedy = "letters, digits, `-`, `_`, `.`, a letter or digit at both ends, at most 63";
                let message = format!("`{}` is not a valid label value", shorten(value));
                self.within(shorten(key), |r| r.issue(at, message, Some(remedy.into())));
            }
        }
        Some(map)
    }

    /// A duration (GEP-2257).
    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        if let Tree::Whole(n) = node.tree {
            self.issue(node, "a duration needs a unit", Some(format!("write `{n}s`")));
            return None;
        }
        let text = self.text(node)?;
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(e) => {
                self.issue(node, e.to_string(), Some(e.remedy));
                None
            }
        }
    }

    /// A duration in a range.
    pub(super) fn duration_in(&mut self, node: &Node, min: Duration, max: Duration) -> Option<Duration> {
        let duration = self.duration(node)?;
        if (min..=max).contains(&duration) {
            return Some(duration);
        }
        let [d, min, max] = [duration, min, max].map(super::format_duration);
        self.issue(node, format!("{d} is out of range"), Some(format!("{min} to {max}")));
        None
    }

    /// A limit in time, at most a day; `0s` switches it off.
    pub(super) fn limit(&mut self, node: &Node) -> Option<Switch<Duration>> {
        let duration = self.duration_in(node, Duration::ZERO, Duration::from_secs(24 * 3600))?;
        Some(if duration.is_zero() { Switch::Off } else { Switch::On(duration) })
    }

    /// Percent, 0 to 100, also with a fraction.
    pub(super) fn share(&mut self, node: &Node) -> Option<Fraction> {
        let percent = match node.tree {
            // Exact below 2^53; anything larger is refused all the same.
            Tree::Whole(n) => n as f64,
            Tree::Float(f) => f,
            Tree::Text(_) => {
                self.issue(node, "this must be a number, and is text", Some("percent as a number, without `%`".into()));
                return None;
            }
            _ => return self.wrong_type(node, "a number"),
        };
        let share = Fraction::from_percent(percent);
        if share.is_none() {
            self.issue(node, format!("{percent} is out of range"), Some("0 to 100 percent".into()));
        }
        share
    }

    /// A regular expression.
    pub(super) fn pattern(&mut self, node: &Node) -> Option<SafeRegex> {
        let text = self.words(node, 4096)?;
        match SafeRegex::new(text) {
            Ok(regex) => Some(regex),
            Err(e) => {
                let remedy = "RE2 syntax; it must match the whole text; no look-around, no back-references";
                self.issue(node, e.to_string(), Some(remedy.into()));
                None
            }
        }
    }

    /// A header's name.
    pub(super) fn header_name(&mut self, node: &Node) -> Option<HeaderName> {
        let text = self.text(node)?;
        match HeaderName::try_from(text) {
            Ok(name) => Some(name),
            Err(_) => {
                let remedy = "letters, digits, `-` and `_`; for the host or path of a request use their own fields";
                self.issue(node, format!("`{}` is not a header name", shorten(text)), Some(remedy.into()));
                None
            }
        }
    }

    /// A header's value.
    pub(super) fn header_value(&mut self, node: &Node) -> Option<HeaderValue> {
        let text = self.text(node)?;
        match HeaderValue::from_str(text) {
            Ok(value) if text.len() <= 4096 => Some(value),
            _ => {
                let remedy = "visible ASCII characters, spaces and tabs, at most 4,096";
                self.issue(node, "this is not a header value", Some(remedy.into()));
                None
            }
        }
    }
}

/// A label's value, or the name in a label's key.
fn is_qualified(text: &str) -> bool {
    let ends = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && ends(text.bytes().next())
        && ends(text.bytes().last())
}
