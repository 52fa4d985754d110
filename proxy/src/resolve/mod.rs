//! The world's names: the resolvers that this machine uses (`conf`), asked as an application would ask them (`upstream`).

mod conf;
mod host;
mod upstream;

pub use conf::Conf;
pub use host::Resolver;
pub use upstream::{Over, Upstream, read, write};
