//! Connections to endpoints: made (`connect`), kept (`pool`), lent for one exchange (`lease`).

mod connect;
pub(crate) mod exchange;
mod http2;
mod io;
mod pool;

pub use connect::{ConnectionCount, Dialer, TlsTarget};
pub use exchange::{Exchange, Unsent};
pub use io::Io;
pub use pool::Pool;
