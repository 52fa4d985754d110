//! What is asked for: the shapes of load that every contestant gets.

use crate::contestant::{Contestant, Target};
use clap::ValueEnum;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// HTTP/1.1, 64 kept connections, 128 bytes.
    Http1,
    /// The same, one connection.
    One,
    /// The same, 1,024 connections.
    Many,
    /// HTTP/2, 4 connections with 64 streams each, 128 bytes.
    Http2,
    /// HTTP/2, 4 connections with 64 streams each, a message each way and trailers.
    Grpc,
    /// HTTP/2, 4 connections with 4 streams each, 100 messages one by one in each answer.
    Stream,
    /// HTTP/1.1, 32 kept connections, 64 KiB answers.
    Medium,
    /// HTTP/1.1, 8 kept connections, 1 MiB answers.
    Large,
    /// HTTP/1.1, 2 kept connections, 100 MiB answers.
    Huge,
    /// HTTP/1.1, 32 kept connections, 64 KiB requests.
    MediumUp,
    /// HTTP/1.1, 8 kept connections, 1 MiB requests.
    LargeUp,
    /// HTTP/1.1, 2 kept connections, 100 MiB requests.
    HugeUp,
    /// HTTP/1.1, 16 clients, a new connection for each request.
    Connect,
}

/// What it consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Connections.
    pub connections: usize,
    /// Requests under way at once on each; HTTP/2 where given.
    pub streams: Option<usize>,
    /// What is asked for.
    pub path: &'static str,
    /// How many bytes a request's body has.
    pub up: usize,
    /// How many bytes a right answer has.
    pub down: usize,
    /// Whether the answer ends with trailers.
    pub trailers: bool,
}

/// The messages of one answer of `/stream`.
pub const MESSAGES: usize = 100;
/// A gRPC-like message, with its head.
pub const MESSAGE: usize = 105;

impl Scenario {
    /// As it is asked for.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What runs when nothing is chosen.
    pub const USUAL: [Self; 9] = [
        Self::Http1,
        Self::One,
        Self::Many,
        Self::Grpc,
        Self::Stream,
        Self::Large,
        Self::LargeUp,
        Self::Huge,
        Self::Connect,
    ];

    /// What the report calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, 64 kept connections, 128-byte answers",
            Self::One => "HTTP/1.1, one kept connection, 128-byte answers",
            Self::Many => "HTTP/1.1, 1,024 kept connections, 128-byte answers",
            Self::Http2 => "HTTP/2, 4 connections with 64 streams each, 128-byte answers",
            Self::Grpc => "HTTP/2 like gRPC, 4 connections with 64 streams each, 100-byte messages and trailers",
            Self::Stream => "HTTP/2 like gRPC streaming, 4 connections with 4 streams each, 100 messages an answer",
            Self::Medium => "HTTP/1.1, 32 kept connections, 64 KiB answers",
            Self::Large => "HTTP/1.1, 8 kept connections, 1 MiB answers",
            Self::Huge => "HTTP/1.1, 2 kept connections, 100 MiB answers",
            Self::MediumUp => "HTTP/1.1, 32 kept connections, 64 KiB requests",
            Self::LargeUp => "HTTP/1.1, 8 kept connections, 1 MiB requests",
            Self::HugeUp => "HTTP/1.1, 2 kept connections, 100 MiB requests",
            Self::Connect => "HTTP/1.1, 16 clients, a new connection for each request",
        }
    }

    /// What it consists of.
    pub fn shape(self) -> Shape {
        let get = |connections, path, down| Shape { connections, streams: None, path, up: 0, down, trailers: false };
        let put =
            |connections, up| Shape { connections, streams: None, path: "/small", up, down: 128, trailers: false };
        let grpc = |streams, path, down| Shape {
            connections: 4,
            streams: Some(streams),
            path,
            up: MESSAGE,
            down,
            trailers: true,
        };
        match self {
            Self::Http1 => get(64, "/small", 128),
            Self::One => get(1, "/small", 128),
            Self::Many => get(1024, "/small", 128),
            Self::Connect => get(16, "/small", 128),
            Self::Medium => get(32, "/medium", 64 * KIB),
            Self::Large => get(8, "/large", MIB),
            Self::Huge => get(2, "/huge", 100 * MIB),
            Self::MediumUp => put(32, 64 * KIB),
            Self::LargeUp => put(8, MIB),
            Self::HugeUp => put(2, 100 * MIB),
            Self::Http2 => Shape { streams: Some(64), connections: 4, ..get(4, "/small", 128) },
            Self::Grpc => grpc(64, "/grpc", MESSAGE),
            Self::Stream => grpc(4, "/stream", MESSAGES * MESSAGE),
        }
    }

    /// Whether its latency is measured at fixed rates too.
    pub fn at_fixed_rates(self) -> bool {
        matches!(self, Self::Http1 | Self::Grpc)
    }

    /// Whether each request has a connection of its own.
    pub fn reconnects(self) -> bool {
        self == Self::Connect
    }

    /// Whether what counts is bytes, not requests.
    pub fn is_bulk(self) -> bool {
        let shape = self.shape();
        shape.up.max(shape.down) >= 64 * KIB
    }

    /// Where its requests go.
    pub fn target(self, contestant: &Contestant) -> &Target {
        if self.shape().streams.is_some() { &contestant.grpc } else { &contestant.http }
    }
}
