//! What became of documents, told where they were written: conditions in the status of the cluster's objects.
//!
//! `Accepted`: it is a document and holds. `ResolvedRefs`: what it names is there. `Programmed`: every sidecar that it
//! concerns has applied it. What they are is decided purely ([`decide`]); one replica writes ([`write`]), the one that leads.

mod decide;
mod replicas;
mod write;

pub use decide::{Condition, Conditions, Progress, decide};
pub use write::Writer;
