//! Configuration on its way to the sidecars: what a stream is owed ([`machine`], which the fleet's
//! status stands on too, below both), what a node should have (`view`), who a
//! node is (`node`), and the streams themselves (`server`).

mod node;
pub mod server;
mod stream;
#[cfg(test)]
mod tests;
pub mod view;
mod wire;

pub use crate::machine;
