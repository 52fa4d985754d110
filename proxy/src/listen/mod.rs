//! Where connections come in: sockets (`accept`), what is spoken (`detect`), HTTP (`http`), bytes (`tcp`), and the two
//! directions (`outbound`, `inbound`).

mod accept;
mod captured;
mod detect;
mod extended;
mod hello;
mod http;
mod http1;
mod http2;
mod inbound;
mod named;
mod original;
mod outbound;
mod resets;
mod tcp;

pub use accept::{Accepting, Bound, Places, bind, bind_v6};
pub use hello::{Hello, server_name};
pub use inbound::Inbound;
pub use outbound::Outbound;
