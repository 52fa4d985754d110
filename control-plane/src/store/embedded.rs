//! The store in one file beside the process, on redb: a transaction is on disk (fsync) before anyone sees it, so a crash
//! at any moment loses nothing that was acknowledged and leaves nothing half done.
//!
//! Documents are read from memory; the disk is touched only by transactions and by the key-value space. After a write
//! that failed (a full disk, say) the file is opened again by the next call, and what is really on it is what counts.

use super::{Applied, Batch, Error, MetaExpect, Snapshot, Store, file, ledger, meta_fits, meta_room, record};
use super::{Stored, snapshot::Write};
use parking_lot::{Mutex, MutexGuard};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use time::OffsetDateTime;
use tokio::sync::watch;

/// `<kind>/<namespace>/<name>` → the document and what is known of it, as JSON.
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
/// The key-value space.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// `format` and `version`.
const HEAD: TableDefinition<'_, &str, u64> = TableDefinition::new("head");
/// The layout above.
const FORMAT: u64 = 1;

/// How the file is opened; tests put a disk between that fails.
type Opener = Box<dyn Fn(&Path) -> Result<Database, Error> + Send + Sync>;

/// Documents in a file.
pub struct Embedded {
    path: PathBuf,
    opener: Opener,
    published: watch::Sender<Arc<Snapshot>>,
    /// `None` after a failed write, until the next call opens it again. Its lock is also what orders transactions.
    database: Mutex<Option<Database>>,
}

impl Embedded {
    /// Opens `<directory>/store/weir.redb`, and makes what is missing of it: the file readable by its owner only, in a
    /// directory of which the same is true.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Self::open_by(directory, Box::new(file::open))
    }

    /// As [`Embedded::open`], with another way to the disk.
    pub(super) fn open_by(directory: &Path, opener: Opener) -> Result<Self, Error> {
        let path = file::prepare(directory)?;
        let database = opener(&path)?;
        let snapshot = load(&path, &database)?;
        let published = watch::Sender::new(Arc::new(snapshot));
        Ok(Self { path, opener, published, database: Mutex::new(Some(database)) })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs something on the open database. If that fails on the disk, the next call starts from what is on it.
    fn with<T>(&self, run: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        let mut guard = self.database.lock();
        let done = run(self.opened(&mut guard)?);
        if matches!(done, Err(Error::Io { .. } | Error::Corrupt { .. })) {
            *guard = None;
        }
        done
    }

    fn opened<'a>(&self, guard: &'a mut MutexGuard<'_, Option<Database>>) -> Result<&'a Database, Error> {
        let database = match guard.take() {
            Some(database) => database,
            None => {
                let database = (self.opener)(&self.path)?;
                let found = load(&self.path, &database)?;
                // A commit whose end was not seen may have happened all the same.
                self.published.send_if_modified(|published| {
                    let differs = published.version() != found.version();
                    if differs {
                        *published = Arc::new(found);
                    }
                    differs
                });
                database
            }
        };
        Ok(guard.insert(database))
    }

    fn commit(&self, database: &Database, version: u64, writes: &[Write]) -> Result<(), Error> {
        let fail = |e: redb::Error| file::error(&self.path, "writing to the store", e);
        self.write(database, |transaction| {
            let mut documents = transaction.open_table(DOCUMENTS).map_err(|e| fail(e.into()))?;
            for write in writes {
                let name = record::name(&write.key);
                match &write.stored {
                    Some(stored) => {
                        let bytes = record::encode(stored).map_err(|e| self.corrupt(format!("{name}: {e}")))?;
                        documents.insert(name.as_str(), bytes.as_slice()).map_err(|e| fail(e.into()))?;
                    }
                    None => drop(documents.remove(name.as_str()).map_err(|e| fail(e.into()))?),
                }
            }
            let mut head = transaction.open_table(HEAD).map_err(|e| fail(e.into()))?;
            head.insert("version", version).map_err(|e| fail(e.into()))?;
            Ok(())
        })
    }

    /// One durable transaction.
    fn write(
        &self,
        database: &Database,
        fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let fail = |e: redb::Error| file::error(&self.path, "writing to the store", e);
        let mut transaction = database.begin_write().map_err(|e| fail(e.into()))?;
        transaction.set_durability(Durability::Immediate).map_err(|e| fail(e.into()))?;
        fill(&transaction)?;
        transaction.commit().map_err(|e| fail(e.into()))
    }

    fn corrupt(&self, why: String) -> Error {
        Error::Corrupt { path: self.path.clone(), why }
    }
}

impl Store for Embedded {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.published.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        self.with(|database| {
            let plan = ledger::plan(&self.snapshot(), batch, OffsetDateTime::now_utc())?;
            if !batch.dry_run && !plan.writes.is_empty() {
                self.commit(database, plan.next.version(), &plan.writes)?;
                self.published.send_replace(Arc::new(plan.next));
            }
            Ok(plan.applied)
        })
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let fail = |e: redb::Error| file::error(&self.path, "reading the store", e);
        self.with(|database| {
            let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
            let table = transaction.open_table(META).map_err(|e| fail(e.into()))?;
            Ok(table.get(name).map_err(|e| fail(e.into()))?.map(|value| value.value().to_vec()))
        })
    }

    fn set_meta(&self, name: &str, expect: MetaExpect<'_>, value: Option<&[u8]>) -> Result<(), Error> {
        meta_fits(name, value)?;
        let fail = |e: redb::Error| file::error(&self.path, "writing to the store", e);
        self.with(|database| {
            self.write(database, |transaction| {
                let mut table = transaction.open_table(META).map_err(|e| fail(e.into()))?;
                let found = table.get(name).map_err(|e| fail(e.into()))?.map(|value| value.value().to_vec());
                expect.check(name, found.as_deref())?;
                match value {
                    None => drop(table.remove(name).map_err(|e| fail(e.into()))?),
                    Some(value) => {
                        if found.is_none() {
                            meta_room(table.len().map_err(|e| fail(e.into()))? as usize)?;
                        }
                        table.insert(name, value).map_err(|e| fail(e.into()))?;
                    }
                }
                Ok(())
            })
        })
    }

    fn meta_names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let fail = |e: redb::Error| file::error(&self.path, "reading the store", e);
        self.with(|database| {
            let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
            let table = transaction.open_table(META).map_err(|e| fail(e.into()))?;
            let mut names = Vec::new();
            for entry in table.range(prefix..).map_err(|e| fail(e.into()))? {
                let (name, _) = entry.map_err(|e| fail(e.into()))?;
                if !name.value().starts_with(prefix) {
                    break;
                }
                names.push(name.value().to_owned());
            }
            Ok(names)
        })
    }
}

/// Reads everything; of a new file, writes what must be in one.
fn load(path: &Path, database: &Database) -> Result<Snapshot, Error> {
    let fail = |e: redb::Error| file::error(path, "opening the store", e);
    let corrupt = |why: String| Error::Corrupt { path: path.to_owned(), why };
    let transaction = database.begin_write().map_err(|e| fail(e.into()))?;
    let mut documents: BTreeMap<_, Arc<Stored>> = BTreeMap::new();
    let version = {
        let mut head = transaction.open_table(HEAD).map_err(|e| fail(e.into()))?;
        let number = |entry: Option<redb::AccessGuard<'_, u64>>| entry.map(|n| n.value());
        let format = number(head.get("format").map_err(|e| fail(e.into()))?);
        let version = number(head.get("version").map_err(|e| fail(e.into()))?).unwrap_or(0);
        match format {
            None => drop(head.insert("format", FORMAT).map_err(|e| fail(e.into()))?),
            Some(found) if found > FORMAT => {
                return Err(Error::Newer { path: path.to_owned(), found, known: FORMAT });
            }
            Some(_) => {}
        }
        transaction.open_table(META).map_err(|e| fail(e.into()))?;
        let table = transaction.open_table(DOCUMENTS).map_err(|e| fail(e.into()))?;
        for entry in table.iter().map_err(|e| fail(e.into()))? {
            let (name, bytes) = entry.map_err(|e| fail(e.into()))?;
            let stored = record::decode(bytes.value()).map_err(|why| corrupt(format!("{}: {why}", name.value())))?;
            if stored.resource_version > version {
                return Err(corrupt(format!("{} is newer than the store", name.value())));
            }
            documents.insert(Arc::new(stored.document.key()), Arc::new(stored));
        }
        version
    };
    transaction.commit().map_err(|e| fail(e.into()))?;
    Ok(Snapshot::new(version, documents))
}
