//! Connections to endpoints: made (`connect`), kept (`pool`), lent for one exchange (`lease`).

mod beside;
mod connect;
pub(crate) mod exchange;
mod http1;
mod http2;
mod idle;
mod pool;
mod waiting;

pub use crate::io::Io;
pub use beside::Beside;
pub use connect::{ConnectionCount, Dialer, TlsTarget};
pub use exchange::{Exchange, Message, Outgoing, Unsent};
pub use pool::Pool;
pub use waiting::Client;
