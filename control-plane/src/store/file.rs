//! The database file: where it lies, who may read it, and what its errors mean for a person.

use super::Error;
use redb::{Database, DatabaseError, StorageError};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The directory inside the data directory that is ours alone.
const DIRECTORY: &str = "store";
const FILE: &str = "weir.redb";
/// Everything is read once at start and then kept in memory as documents, so a large page cache would be memory twice.
const CACHE_BYTES: usize = 8 << 20;

/// Makes the directory and the file if they are missing, and takes the rights of others away if they have any: the file
/// holds the certificate authority's key.
pub(super) fn prepare(directory: &Path) -> Result<PathBuf, Error> {
    let inner = directory.join(DIRECTORY);
    let path = inner.join(FILE);
    let failed = |source| Error::Io {
        what: format!("making {}", path.display()),
        source,
        remedy: "give a data directory that this user may write to",
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&inner).map_err(failed)?;
    owner_only(&inner, 0o700).map_err(failed)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    owner_only(&path, 0o600).map_err(failed)?;
    // The name of a new file is on disk only when its directory is.
    file.sync_all().and_then(|()| File::open(&inner)?.sync_all()).map_err(failed)?;
    Ok(path)
}

fn owner_only(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?.permissions().mode() & 0o777;
    if found & !mode != 0 { fs::set_permissions(path, Permissions::from_mode(mode)) } else { Ok(()) }
}

/// Opens the database, repairs what a crash left, and checks every page, so that damage is found now and not later.
pub(super) fn open(path: &Path) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder.create(path).map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen => Error::Locked { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
            Error::Corrupt { path: path.to_owned(), why: e.to_string() }
        }
        e => error(path, "opening the store", e.into()),
    })
}

/// What an error of the database means.
pub(super) fn error(path: &Path, what: &str, error: redb::Error) -> Error {
    let what = format!("{what} ({})", path.display());
    match error {
        redb::Error::Corrupted(why) => Error::Corrupt { path: path.to_owned(), why },
        redb::Error::Io(source) => {
            let remedy = match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk, then repeat",
                io::ErrorKind::PermissionDenied => "give this user the right to write there, then repeat",
                _ => "check the disk, then repeat",
            };
            Error::Io { what, source, remedy }
        }
        other => Error::Io { what, source: io::Error::other(other), remedy: "repeat; if it stays, check the disk" },
    }
}
