//! What a disk that fails now and then does to the embedded store: nothing is half done, nothing that was acknowledged is
//! lost, and it works again when the disk does.

use super::{Batch, Embedded, Error, MetaExpect, Store, conformance::service};
use redb::{BackendError, Database, StorageBackend, backends::FileBackend};
use std::{
    fs::OpenOptions,
    io,
    ops::Bound,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// A disk that serves so many writes and then has no room, until it is given some.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    writes_left: Arc<AtomicI64>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        match self.writes_left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::StorageFull)),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

fn store_on(directory: &Path, writes_left: &Arc<AtomicI64>) -> Embedded {
    let writes_left = writes_left.clone();
    let opener = move |path: &Path| -> Result<Database, Error> {
        let failed = |e: redb::Error| super::file::error(path, "opening", e);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| failed(e.into()))?;
        let file = FileBackend::new(file).map_err(|e| failed(e.into()))?;
        let disk = Disk { file, writes_left: writes_left.clone() };
        Database::builder().create_with_backend(disk).map_err(|e| failed(e.into()))
    };
    Embedded::open_by(directory, Box::new(opener)).unwrap()
}

#[test]
fn a_full_disk_is_an_error_and_room_heals_it() {
    let directory = tempfile::tempdir().unwrap();
    let writes_left = Arc::new(AtomicI64::new(i64::MAX));
    let store = store_on(directory.path(), &writes_left);
    let mut acknowledged = 0;
    let mut failures = 0;
    // The disk fills up after every possible number of writes, so at every step of a transaction.
    for room in 0..40 {
        writes_left.store(room, Ordering::SeqCst);
        let port = 1000 + u16::try_from(room).unwrap();
        let pair = Batch::put_all([service("a", port), service("b", port)]);
        match store.apply(&pair) {
            Ok(applied) => acknowledged = applied.version,
            Err(Error::Io { remedy, .. }) => {
                failures += 1;
                assert!(!remedy.is_empty());
            }
            Err(other) => panic!("{other}"),
        }
        writes_left.store(i64::MAX, Ordering::SeqCst);
        store.set_meta("n", MetaExpect::Any, Some(&[0])).unwrap();
        let snapshot = store.snapshot();
        assert!(snapshot.version() == acknowledged || snapshot.version() == acknowledged + 1);
        acknowledged = snapshot.version();
        let versions: Vec<u64> = snapshot.iter().map(|(_, s)| s.resource_version).collect();
        assert!(versions.windows(2).all(|v| v[0] == v[1]), "both or none: {versions:?}");
    }
    assert!(failures > 3, "only {failures}");
    let memory = store.snapshot();
    drop(store);
    let disk = Embedded::open(directory.path()).unwrap().snapshot();
    assert_eq!(memory.version(), disk.version());
    assert!(memory.iter().eq(disk.iter()), "what is shown is what is kept");
}
