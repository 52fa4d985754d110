//! Configuration on its way to the sidecars: what a stream is owed (`machine`), what a node should have (`view`), who a
//! node is (`node`), and the streams themselves (`server`).

pub mod machine;
mod node;
pub mod server;
mod stream;
pub mod view;
mod wire;
