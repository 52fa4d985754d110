//! HTTP/1 on the wire (RFC 9112), for both ends of the sidecar: the served side (`listen`) and the calling side
//! (`upstream`).
//!
//! What is decided by bytes alone is pure: heads (`head`), how long a body is (`framing`), chunks (`chunked`), and how a
//! head is written (`write`). [`Conn`] puts them on a connection, with bounded buffers; a message's body is read through
//! [`Incoming`]. No task and no channel stands between a connection and whoever reads or writes it: what one end reads,
//! the other writes in the same turn.
//!
//! It is our own because a mesh owes its users the traffic as it was written: the case of header names, interim
//! responses (100, 103), `Expect`, half-closes and the exact end of each message are part of it.

pub mod chunked;
mod conn;
mod framing;
pub mod head;
mod incoming;
mod outbox;
mod spelling;
mod write;

pub use conn::{Conn, HeadError, Shared};
pub use framing::Length;
pub use head::{Fault, RequestHead, ResponseHead};
pub use incoming::{Incoming, Interim, Taken, Takeover};
pub use outbox::Outbox;
pub use spelling::Spelling;
pub use write::{Closing, Sending, chunk_end, chunk_start, interim, request_head, response_head};

/// The bytes that a head may have.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header fields that a message may have, besides the limit on their bytes: each costs memory of its own.
pub const MAX_HEADERS: usize = 128;
