//! The sidecar: mutual TLS, balancing, retries, timeouts and circuit breaking beside a workload.
//!
//! # The life of a request
//!
//! From the application, outbound:
//! 1. [`listen`] `accept`: a data thread accepts the connection and keeps it; `detect` tells HTTP/1 from HTTP/2.
//! 2. [`listen`] `http`: HTTP/1 is read by [`http1`], HTTP/2 by h2 ([`http2`] has what both ends do with its streams); [`request`]
//!    checks the request once against HTTP's rules and takes away what belongs to one hop. [`record`] begins to note what becomes of it.
//! 3. [`stack`] `outbound`: the order of the stages. From here on each step is a room in [`policy`]:
//! 4. `observe` sees everything and turns failures into responses that say why ([`reply`], [`error`]).
//! 5. `trace` ties hops together; `route` finds the rule and draws the destination from the one snapshot ([`state`]), or
//!    asks for it ([`state::Demand`] → [`xds`]) and waits.
//! 6. `headers` changes what the rule changes; `fault` fails on purpose; `timeout` sets the end of its time; `upgrade`
//!    joins both sides of a WebSocket ([`tunnel`]).
//! 7. `retry` makes the tries: each goes through `breaker` (limits), `balance` (which endpoint; [`logic`] decides, and
//!    learns from the outcome) and `forward`.
//! 8. [`upstream`] lends a connection of the endpoint's pool, or makes one: mutual TLS by [`tls`] with [`identity`].
//! 9. The response comes back through the same rooms; [`body`] lets go of connection, permits and record when its last
//!    byte has gone; [`telemetry`] counts and logs.
//!
//! To the application, inbound: [`listen`] `inbound` shakes hands, knows the caller by its certificate and the port by
//! its server name; [`stack`] `inbound` puts `authz` in front of routing; the rest is the same.
//!
//! Captured connections come in by [`listen`] `captured` (out) and `inbound`: `original` knows where they were meant to go,
//! and that address, not a name, is what [`state`] is asked for; [`capture`] has the rules that `weir-init` sets. Questions
//! for names (DNS) come to [`dns`]: answered from [`state`], or by the machine's resolvers ([`resolve`]).
//!
//! Memory that was needed once goes back to the kernel by `given_back`; [`descriptors`] has room for those of a crowd.
//!
//! `CONNECT` and everything that is not HTTP goes from [`listen`] `tcp` to [`tunnel`] as bytes.

pub mod admin;
pub mod alarm;
pub mod app;
pub mod body;
pub mod capture;
pub mod connection;
pub mod data;
pub mod descriptors;
pub mod disk;
pub mod dns;
pub mod drain;
pub mod error;
mod given_back;
pub mod handover;
pub mod http1;
pub mod http2;
pub mod identity;
pub mod io;
pub mod listen;
pub mod logic;
pub mod options;
pub mod policy;
pub mod record;
pub mod reply;
pub mod request;
pub mod resolve;
pub mod stack;
pub mod stage;
pub mod state;
mod sys;
pub mod takeover;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
mod turns;
pub mod upstream;
pub mod xds;
