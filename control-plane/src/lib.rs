//! The control plane: what operators write, kept, indexed, and compiled into what each sidecar needs to know; and the
//! command line.
//!
//! # The life of a change
//!
//! 1. An operator writes a document. It arrives over the REST API ([`api`]), from a watched [`folder`], or through the
//!    command line ([`cli`]), which uses the REST API.
//! 2. `weir_config::resources` parses it strictly: what is not known is an error with file, line, field and remedy.
//! 3. [`api`] makes a transaction of all documents of the request, with what must hold before (`resourceVersion`).
//! 4. [`store`] works out what the documents would be, checks that they fit together, writes them to disk, and only then
//!    shows them: a new snapshot with the next version.
//! 5. [`app`] has told [`fleet`] of the version; from here its time runs.
//! 6. [`index`] builds the world of that snapshot: who stands behind which service, which policies belong to what.
//!    What did not change is shared with the world before.
//! 7. [`xds`] wakes each stream. For the names that its proxy asked for, it compiles resources ([`compile`], pure) and
//!    compares them with what was sent, by content.
//! 8. [`machine`] decides what goes out, in an order in which nothing is taken away before its successor is there.
//! 9. `weir_config::xds` writes Envoy's protobufs; the stream carries them over mutual TLS with identities of [`ca`].
//! 10. The proxy takes each resource, or refuses it by name and says why; it keeps the last good one.
//! 11. [`fleet`] notes who has applied the change, who has refused it, and after how long.
//! 12. [`api`] tells it: `/api/v1/changes/{version}?wait=30s`, and `weir status` prints it.
//!
//! In a cluster, [`webhook`] is asked about every pod that is made in a namespace with sidecars; [`inject`] decides, purely.
//!
//! Several control planes on one store do all of this side by side; [`leader`] says who does what one must do alone.
//! [`up`] runs a whole mesh of a folder on one machine. [`metrics`] counts.

pub mod api;
pub mod app;
pub mod ca;
mod causes;
pub mod cli;
pub mod client;
pub mod compile;
pub mod crd;
mod duration;
mod failure;
pub mod fleet;
pub mod folder;
pub mod index;
pub mod inject;
pub mod kubernetes;
pub mod leader;
pub mod machine;
pub mod metrics;
mod serve;
pub mod status;
pub mod store;
pub mod tls;
pub mod up;
pub mod webhook;
pub mod xds;
