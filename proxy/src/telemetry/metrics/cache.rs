//! From an outcome to its counter without a hash and, for the outcomes that are usual, without a lock.

use crate::telemetry::registry::Counter;
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, OnceLock},
};

/// The first outcomes keep the places that they took, and are found by looking through them.
const PLACES: usize = 12;
/// The others are found in a map, of this size at most; beyond it, in the family each time.
const LATER: usize = 1_024;

#[derive(Debug)]
pub(super) struct Cache<K> {
    /// Made when the first outcome comes: of a thousand routes, few are taken.
    first: OnceLock<Box<Places<K>>>,
    later: RwLock<HashMap<K, Arc<Counter>>>,
}

type Places<K> = [OnceLock<(K, Arc<Counter>)>; PLACES];

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { first: OnceLock::new(), later: RwLock::default() }
    }
}

impl<K: Eq + Hash> Cache<K> {
    /// Counts one of the outcome that `is` recognises, `key` makes, and `series` finds the counter of.
    pub(super) fn count(&self, is: impl Fn(&K) -> bool, key: impl Fn() -> K, series: impl Fn(&K) -> Arc<Counter>) {
        for place in &**self.first.get_or_init(|| Box::new([const { OnceLock::new() }; PLACES])) {
            let (taken_by, counter) = place.get_or_init(|| {
                let key = key();
                let counter = series(&key);
                (key, counter)
            });
            if is(taken_by) {
                counter.inc();
                return;
            }
        }
        let key = key();
        if let Some(counter) = self.later.read().get(&key) {
            counter.inc();
            return;
        }
        let counter = series(&key);
        counter.inc();
        let mut later = self.later.write();
        if later.len() < LATER {
            later.insert(key, counter);
        }
    }
}
