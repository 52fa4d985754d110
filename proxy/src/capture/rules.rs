//! The rules of one network namespace, as a transaction of nftables: one table of our own, made anew as a whole each time,
//! so that setting it twice is setting it once, and taking it away leaves nothing.
//!
//! Who may not be captured: the sidecar itself (or its connections would come back to it for ever), and what stays on
//! this machine (loopback, and the pod's own addresses). An application that calls a service which it is itself behind
//! calls the service's address, which is not of this machine: that goes out through its sidecar like any other call.

use super::{DNS, INBOUND, OUTBOUND, PROBE, SIDECAR};
use std::{
    fmt::{Display, Write},
    net::IpAddr,
    ops::RangeInclusive,
    str::FromStr,
};

/// The table's name.
pub const TABLE: &str = "weir";

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Where the application's connections are turned to.
    pub outbound_port: u16,
    /// Where its questions for names (DNS) are turned to; `None`: they are left alone.
    pub dns_port: Option<u16>,
    /// Where connections for the application are turned to.
    pub inbound_port: u16,
    /// The sidecar's users.
    pub sidecar_uids: Vec<u32>,
    /// The sidecar's groups.
    pub sidecar_gids: Vec<u32>,
    /// Further users whose connections are left alone.
    pub exclude_uids: Vec<u32>,
    /// Further groups.
    pub exclude_gids: Vec<u32>,
    /// Which ports out; empty: all.
    pub outbound_ports: Vec<Ports>,
    /// Which not.
    pub exclude_outbound_ports: Vec<Ports>,
    /// Which addresses out; empty: all.
    pub outbound_ranges: Vec<Range>,
    /// Which not.
    pub exclude_outbound_ranges: Vec<Range>,
    /// Which ports in; empty: all.
    pub inbound_ports: Vec<Ports>,
    /// Which not, besides the sidecar's own.
    pub exclude_inbound_ports: Vec<Ports>,
}

impl Default for Rules {
    /// Everything, for a sidecar with the usual ports and user.
    fn default() -> Self {
        Self {
            outbound_port: OUTBOUND,
            dns_port: Some(DNS),
            inbound_port: INBOUND,
            sidecar_uids: vec![SIDECAR],
            sidecar_gids: vec![SIDECAR],
            exclude_uids: vec![],
            exclude_gids: vec![],
            outbound_ports: vec![],
            exclude_outbound_ports: vec![],
            outbound_ranges: vec![],
            exclude_outbound_ranges: vec![],
            inbound_ports: vec![],
            exclude_inbound_ports: vec![],
        }
    }
}

/// One port, or several in a row: `80`, `8000-8100`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(RangeInclusive<u16>);

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    address: IpAddr,
    bits: u8,
}

/// A text that is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no {1}")]
pub struct NotUnderstood(String, &'static str);

impl FromStr for Ports {
    type Err = NotUnderstood;
    fn from_str(text: &str) -> Result<Self, NotUnderstood> {
        let wrong = || NotUnderstood(text.chars().take(40).collect(), "port, such as 80, or range of ports: 8000-8100");
        let number = |t: &str| t.parse::<u16>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        if first > last { Err(wrong()) } else { Ok(Self(first..=last)) }
    }
}

impl Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.start() == self.0.end() {
            write!(f, "{}", self.0.start())
        } else {
            write!(f, "{}-{}", self.0.start(), self.0.end())
        }
    }
}

impl FromStr for Range {
    type Err = NotUnderstood;
    fn from_str(text: &str) -> Result<Self, NotUnderstood> {
        let wrong = || NotUnderstood(text.chars().take(60).collect(), "range of addresses, such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

impl Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Connections that were there before the rules stay where they are. To the kernel, which begins to follow connections when
/// the first rules come, the next packet of one is the first of a new one, in whichever direction it goes: it would be led
/// to a port where nobody knows of it.
const BEGUN: &str = "meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn return";

/// The transaction that takes everything away; good also where there is nothing.
pub fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

impl Rules {
    /// The transaction that sets them, whatever was set before.
    pub fn text(&self) -> String {
        let mut out = removal();
        // Writing into a text cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (outbound, inbound) = (self.outbound_port, self.inbound_port);
        writeln!(out, "table inet {TABLE} {{")?;
        writeln!(out, "  chain outbound {{")?;
        writeln!(out, "    type nat hook output priority -100; policy accept;")?;
        writeln!(out, "    meta l4proto != {{ tcp, udp }} return")?;
        writeln!(out, "    {BEGUN}")?;
        // First of all, since it is the sidecar itself that tries it.
        writeln!(out, "    ip daddr 127.0.0.1 tcp dport {PROBE} redirect to :{outbound}")?;
        writeln!(out, "    ip6 daddr ::1 tcp dport {PROBE} redirect to :{outbound}")?;
        for (key, ids) in [
            ("skuid", [&self.sidecar_uids[..], &self.exclude_uids].concat()),
            ("skgid", [&self.sidecar_gids[..], &self.exclude_gids].concat()),
        ] {
            leave(out, &format!("meta {key}"), "", &ids)?;
        }
        // Before what is local: resolvers are often on this very machine.
        if let Some(dns) = self.dns_port.filter(|_| !self.exclude_outbound_ports.iter().any(|p| p.0.contains(&53))) {
            writeln!(out, "    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{dns}")?;
        }
        writeln!(out, "    meta l4proto != tcp return")?;
        writeln!(out, "    fib daddr type local return")?;
        leave(out, "tcp dport", "", &self.exclude_outbound_ports)?;
        leave(out, "tcp dport", "!= ", &self.outbound_ports)?;
        let (v4, v6) = by_family(&self.exclude_outbound_ranges);
        leave(out, "ip daddr", "", &v4)?;
        leave(out, "ip6 daddr", "", &v6)?;
        if !self.outbound_ranges.is_empty() {
            let (v4, v6) = by_family(&self.outbound_ranges);
            // Ranges of one family only: the other is not captured at all.
            only(out, "ipv4", "ip daddr", &v4)?;
            only(out, "ipv6", "ip6 daddr", &v6)?;
        }
        writeln!(out, "    meta l4proto tcp redirect to :{outbound}\n  }}")?;
        writeln!(out, "  chain inbound {{")?;
        writeln!(out, "    type nat hook prerouting priority -100; policy accept;")?;
        writeln!(out, "    meta l4proto != tcp return")?;
        writeln!(out, "    {BEGUN}")?;
        writeln!(out, "    iifname \"lo\" return")?;
        // What is only passing through here is nobody's here.
        writeln!(out, "    fib daddr type != local return")?;
        writeln!(out, "    tcp dport {{ {inbound}, 15020, 15021 }} return")?;
        leave(out, "tcp dport", "", &self.exclude_inbound_ports)?;
        leave(out, "tcp dport", "!= ", &self.inbound_ports)?;
        writeln!(out, "    meta l4proto tcp redirect to :{inbound}\n  }}\n}}")
    }
}

/// Leaves alone what has (or has not) one of these values.
fn leave<T: Display>(out: &mut String, what: &str, not: &str, values: &[T]) -> std::fmt::Result {
    match set(values) {
        Some(set) => writeln!(out, "    {what} {not}{set} return"),
        None => Ok(()),
    }
}

fn only<T: Display>(out: &mut String, family: &str, what: &str, values: &[T]) -> std::fmt::Result {
    match set(values) {
        Some(set) => writeln!(out, "    {what} != {set} return"),
        None => writeln!(out, "    meta nfproto {family} return"),
    }
}

fn set<T: Display>(values: &[T]) -> Option<String> {
    let all: Vec<_> = values.iter().map(ToString::to_string).collect();
    (!all.is_empty()).then(|| format!("{{ {} }}", all.join(", ")))
}

fn by_family(ranges: &[Range]) -> (Vec<Range>, Vec<Range>) {
    ranges.iter().partition(|range| range.address.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rules: &Rules) -> Vec<String> {
        rules.text().lines().map(|l| l.trim().to_owned()).collect()
    }

    fn at(lines: &[String], wanted: &str) -> usize {
        lines.iter().position(|l| l == wanted).unwrap_or_else(|| panic!("no `{wanted}` in {lines:#?}"))
    }

    #[test]
    fn the_sidecar_and_this_machine_are_left_alone_before_anything_is_captured() {
        let lines = lines(&Rules::default());
        let captured = at(&lines, "meta l4proto tcp redirect to :15001");
        for exempt in ["meta skuid { 1337 } return", "meta skgid { 1337 } return", "fib daddr type local return"] {
            assert!(at(&lines, exempt) < captured, "{exempt}");
        }
        let probe = at(&lines, "ip daddr 127.0.0.1 tcp dport 15003 redirect to :15001");
        assert!(probe < at(&lines, "meta skuid { 1337 } return"), "the sidecar itself must be able to try it");
        assert_eq!(lines.iter().filter(|line| **line == BEGUN).count(), 2, "of both directions");
        let own = at(&lines, "tcp dport { 15006, 15020, 15021 } return");
        assert!(own < at(&lines, "meta l4proto tcp redirect to :15006"));
        assert_eq!(lines[..2], ["add table inet weir", "delete table inet weir"], "set anew as a whole");
    }

    #[test]
    fn what_is_included_and_excluded_stands_in_the_rules() {
        let rules = Rules {
            exclude_uids: vec![5],
            outbound_ports: vec!["80".parse().unwrap(), "8000-8100".parse().unwrap()],
            exclude_outbound_ports: vec!["22".parse().unwrap()],
            outbound_ranges: vec!["10.0.0.0/8".parse().unwrap()],
            exclude_outbound_ranges: vec!["10.1.0.0/16".parse().unwrap(), "fd00::1".parse().unwrap()],
            inbound_ports: vec!["8080".parse().unwrap()],
            exclude_inbound_ports: vec!["9090".parse().unwrap()],
            ..Rules::default()
        };
        let lines = lines(&rules);
        for line in [
            "meta skuid { 1337, 5 } return",
            "tcp dport { 22 } return",
            "tcp dport != { 80, 8000-8100 } return",
            "ip daddr { 10.1.0.0/16 } return",
            "ip6 daddr { fd00::1/128 } return",
            "ip daddr != { 10.0.0.0/8 } return",
            "meta nfproto ipv6 return",
            "tcp dport { 9090 } return",
            "tcp dport != { 8080 } return",
        ] {
            at(&lines, line);
        }
    }

    #[test]
    fn what_is_no_port_and_no_range_is_refused() {
        for text in ["", "0", "80-", "90-80", "65536", "80;drop", "80-90-100"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/", "host", "::1 } drop"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }
}
