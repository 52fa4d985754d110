//! Why the store refused or failed: a closed list, each with what a person can do about it.

use super::Expect;
use std::path::PathBuf;
use weir_config::resources::{Issue, Key};

/// Why a call of the store did not do what was asked. After any of these but [`Error::Unknown`], nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A precondition did not hold: someone else was quicker.
    #[error("{key} was changed by someone else: expected {expected}, found {}; read it again and repeat the change", Found(*.found))]
    Conflict {
        /// Which document.
        key: Key,
        /// What the caller expected.
        expected: Expect,
        /// The resource version that is there; `None`: the document is not.
        found: Option<u64>,
    },
    /// As [`Error::Conflict`], for an entry of the key-value space.
    #[error("the entry `{name}` was written by someone else; read it again and repeat the change")]
    MetaConflict {
        /// Which entry.
        name: String,
    },
    /// The documents, as they would be after the change, do not fit together.
    #[error("{}", Listed(.0))]
    Invalid(Vec<Issue>),
    /// A batch changes a document twice.
    #[error("{key} occurs twice in one change; keep one of the two")]
    Twice {
        /// Which document.
        key: Key,
    },
    /// A document to be deleted does not exist.
    #[error("{key} does not exist")]
    NotFound {
        /// Which document.
        key: Key,
    },
    /// A limit of the store would be passed.
    #[error("{what} would be {would_be}, and the limit is {limit}; {remedy}")]
    Limit {
        /// What is limited, with the document's name where it is one's.
        what: String,
        /// What it would have been.
        would_be: u64,
        /// The limit.
        limit: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// Another process has the database open.
    #[error("{} is in use by another process; stop the other control plane, or give this one its own data directory", .path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The disk, or the operating system, said no.
    #[error("{what}: {source}; {remedy}")]
    Io {
        /// What was being done.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The file is there and cannot be what was written.
    #[error("{} is damaged: {why}; restore it from a backup, or move it away and apply the documents again", .path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The file was written by a newer version.
    #[error("{} has format {found}, and this version reads up to {known}; start the newer version again", .path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// The server that keeps the documents does not answer, or says no.
    #[error("{server}: {why}{}", Remedy(.remedy))]
    Server {
        /// Which.
        server: String,
        /// What it said, or what happened on the way.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The server did not answer in time: unlike after all other errors, the change may have been made.
    #[error(
        "{server} did not say whether the change is stored ({why}); read the documents again, and repeat the change if it is not there"
    )]
    Unknown {
        /// Which.
        server: String,
        /// What happened on the way.
        why: String,
    },
}

struct Remedy<'a>(&'a str);

impl std::fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; {}", self.0) }
    }
}

struct Found(Option<u64>);

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(version) => write!(f, "resource version {version}"),
            None => f.write_str("no such document"),
        }
    }
}

struct Listed<'a>(&'a [Issue]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, issue) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{issue}")?;
        }
        Ok(())
    }
}
