//! What was counted and timed, second by second, so that any stretch of time can be asked for afterwards.

mod histogram;
mod timeline;

pub use histogram::Histogram;
pub use timeline::{Series, Timeline, Window, unix_seconds};
