//! Connections of bytes, by direction.

use super::Metrics;
use crate::telemetry::{
    exposition::Exposition,
    record::Direction,
    registry::{Cap, Counter, Family},
};
use std::sync::Arc;

/// The counts of one direction.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    opened: Counter,
    closed: Counter,
    received: Counter,
    sent: Counter,
}

/// Bytes by destination.
pub(super) fn destinations(cap: &Arc<Cap>) -> Family<Counter, 2> {
    let help = "Bytes of connections of bytes, to a destination (sent) and from it (received).";
    Family::new(cap, "weir_tcp_destination_bytes_total", help, ["destination", "way"], Counter::default)
}

/// What was detected, and how.
pub(super) fn detected(cap: &Arc<Cap>) -> Family<Counter, 3> {
    let help = "Captured connections, by what they speak and how that was told.";
    Family::new(cap, "weir_protocol_detect_total", help, ["direction", "result", "method"], Counter::default)
}

impl Metrics {
    /// A connection of bytes began.
    pub fn tcp_opened(&self, direction: Direction) {
        self.tcp[direction as usize].opened.inc();
    }

    /// It ended.
    pub fn tcp_closed(&self, direction: Direction) {
        self.tcp[direction as usize].closed.inc();
    }

    /// So many bytes came from the client, and went to it.
    pub fn tcp_bytes(&self, direction: Direction, received: u64, sent: u64) {
        self.tcp[direction as usize].received.add(received);
        self.tcp[direction as usize].sent.add(sent);
    }
}

pub(super) fn tell(tcp: &[Tcp; 2], out: &mut Exposition) {
    let mut family = |name, kind, help, value: fn(&Tcp) -> u64| {
        out.family(name, kind, help);
        for direction in Direction::ALL {
            out.sample([("direction", direction.as_str())], value(&tcp[direction as usize]));
        }
    };
    let opened = "Connections of bytes that began.";
    family("weir_tcp_connections_opened_total", "counter", opened, |t| t.opened.value());
    let closed = "Connections of bytes that ended.";
    family("weir_tcp_connections_closed_total", "counter", closed, |t| t.closed.value());
    let open = "Connections of bytes that are open.";
    family("weir_tcp_open_connections", "gauge", open, |t| t.opened.value().saturating_sub(t.closed.value()));
    family("weir_tcp_received_bytes_total", "counter", "Bytes from clients.", |t| t.received.value());
    family("weir_tcp_sent_bytes_total", "counter", "Bytes to clients.", |t| t.sent.value());
}
