//! Hot upgrade: a new process takes the listening sockets over from the one before, over a Unix socket.
//!
//! ```text
//! new                       old
//! hello           ──────▶
//!                 ◀──────   sockets (the descriptors themselves, SCM_RIGHTS), by name
//! … gets ready: certificate, configuration; the old one accepts meanwhile …
//! ready           ──────▶
//!                 ◀──────   yours (it accepts no more; who connects waits in the kernel's queue)
//! accepting       ──────▶   lets its copies go, and finishes what it has
//! ```
//! Both have the same sockets, not sockets on the same addresses: there is one queue, and nobody in it is lost. When the
//! new process ends, breaks off or takes too long before `accepting`, the old one goes on as if nothing had happened.
//!
//! Only a process of the same user (or root) is answered.

mod give;
mod take;
mod wire;

pub use give::{Giver, Outcome};
pub use take::{TakeError, Taken, ask};
pub use wire::Named;
