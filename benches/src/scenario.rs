//! What is asked for: the shapes of load that every contestant gets.

use crate::{
    application,
    contestant::{Contestant, Target},
};
use bytes::Bytes;
use clap::ValueEnum;
use http::{Method, Request};
use http_body_util::Full;

/// A shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// HTTP/1.1, 64 kept connections, 128 bytes.
    Http1,
    /// HTTP/2, 4 connections with 64 streams each, a message each way and trailers.
    Grpc,
    /// HTTP/1.1, 8 kept connections, 1 MiB answers.
    Large,
    /// HTTP/1.1, 16 clients, a new connection for each request.
    Connect,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http1, Self::Grpc, Self::Large, Self::Connect];

    /// What the report calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, 64 kept connections, 128-byte answers",
            Self::Grpc => "HTTP/2 like gRPC, 4 connections with 64 streams each, 100-byte messages and trailers",
            Self::Large => "HTTP/1.1, 8 kept connections, 1 MiB answers",
            Self::Connect => "HTTP/1.1, 16 clients, a new connection for each request",
        }
    }

    /// Connections, and requests under way at once on each.
    pub fn shape(self) -> (usize, usize) {
        match self {
            Self::Http1 => (64, 1),
            Self::Grpc => (4, 64),
            Self::Large => (8, 1),
            Self::Connect => (16, 1),
        }
    }

    /// Whether its latency is measured at the fixed rate too.
    pub fn at_fixed_rate(self) -> bool {
        matches!(self, Self::Http1 | Self::Grpc)
    }

    /// Whether the client speaks HTTP/2.
    pub fn is_http2(self) -> bool {
        self == Self::Grpc
    }

    /// Whether each request has a connection of its own.
    pub fn reconnects(self) -> bool {
        self == Self::Connect
    }

    /// How many bytes a right answer has.
    pub fn answer_size(self) -> usize {
        match self {
            Self::Http1 | Self::Connect => 128,
            Self::Grpc => application::message().len(),
            Self::Large => application::LARGE,
        }
    }

    /// Where its requests go.
    pub fn target(self, contestant: &Contestant) -> &Target {
        if self.is_http2() { &contestant.grpc } else { &contestant.http }
    }

    /// One request.
    pub fn request(self, authority: &str) -> Request<Full<Bytes>> {
        let built = match self {
            Self::Grpc => Request::builder()
                .method(Method::POST)
                .uri(format!("http://{authority}/grpc"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(application::message())),
            Self::Http1 | Self::Connect => {
                Request::builder().uri("/small").header("host", authority).body(Full::default())
            }
            Self::Large => Request::builder().uri("/large").header("host", authority).body(Full::default()),
        };
        built.expect("constant parts, and an authority that was an address or a name")
    }
}
