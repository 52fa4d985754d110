//! The store without a disk: for tests, and for a mesh that is thrown away with its process.

use super::{Applied, Batch, Error, MetaExpect, Snapshot, Store, ledger, meta_fits, meta_room};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use time::OffsetDateTime;
use tokio::sync::watch;

/// Documents in memory.
pub struct Memory {
    published: watch::Sender<Arc<Snapshot>>,
    /// Held while a transaction is worked out, so that two do not start from the same snapshot.
    meta: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { published: watch::Sender::new(Arc::default()), meta: Mutex::default() }
    }
}

impl Store for Memory {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.published.borrow().clone()
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    fn apply(&self, batch: &Batch) -> Result<Applied, Error> {
        let _one_at_a_time = self.meta.lock();
        let plan = ledger::plan(&self.snapshot(), batch, OffsetDateTime::now_utc())?;
        if !batch.dry_run && !plan.writes.is_empty() {
            self.published.send_replace(Arc::new(plan.next));
        }
        Ok(plan.applied)
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.meta.lock().get(name).cloned())
    }

    fn set_meta(&self, name: &str, expect: MetaExpect<'_>, value: Option<&[u8]>) -> Result<(), Error> {
        meta_fits(name, value)?;
        let mut meta = self.meta.lock();
        expect.check(name, meta.get(name).map(Vec::as_slice))?;
        match value {
            None => drop(meta.remove(name)),
            Some(value) => {
                if !meta.contains_key(name) {
                    meta_room(meta.len())?;
                }
                meta.insert(name.to_owned(), value.to_vec());
            }
        }
        Ok(())
    }

    fn meta_names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        Ok(self.meta.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
}
