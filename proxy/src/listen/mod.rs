//! Where connections come in: sockets (`accept`), what is spoken (`detect`), HTTP (`http`), bytes (`tcp`), and the two
//! directions (`outbound`, `inbound`).

mod accept;
mod detect;
mod extended;
mod http;
mod http1;
mod inbound;
mod outbound;
mod tcp;

pub use accept::{Accepting, Bound, Places, bind};
pub use inbound::Inbound;
pub use outbound::Outbound;
