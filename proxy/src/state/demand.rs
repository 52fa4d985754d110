//! What applications ask for and is not configured yet: passed on once each to whoever subscribes, within a limit.

use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc};
use tokio::sync::mpsc;

/// Authorities that are waited for at a time; more are not asked for, and their requests fail when their patience ends.
const MAX_WAITING: usize = 1024;

/// The asking end.
pub struct Demand {
    waiting: Mutex<HashSet<Arc<str>>>,
    ask: mpsc::Sender<Arc<str>>,
}

/// The answering end: authorities to subscribe to.
pub type Wanted = mpsc::Receiver<Arc<str>>;

impl Demand {
    pub(super) fn new() -> (Self, Wanted) {
        let (ask, wanted) = mpsc::channel(MAX_WAITING);
        (Self { waiting: Mutex::default(), ask }, wanted)
    }

    /// Asks for an authority, unless it is being waited for already.
    pub fn want(&self, authority: &Arc<str>) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_WAITING || !waiting.insert(authority.clone()) {
            return;
        }
        if self.ask.try_send(authority.clone()).is_err() {
            waiting.remove(authority);
        }
    }

    /// Forgets what has been answered.
    pub(super) fn settled(&self, answered: impl Fn(&str) -> bool) {
        self.waiting.lock().retain(|authority| !answered(authority));
    }

    /// How many are waited for.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}
