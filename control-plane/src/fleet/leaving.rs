//! Whose sidecar goes down: what this replica was told, and what all replicas keep together. What is said here counts at
//! once, whether it can be kept or not.

use super::{Fleet, Seat};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Workloads whose sidecar goes down, or has gone after it said so, by `<namespace>/<workload>`.
pub type Leaving = BTreeSet<Arc<str>>;

/// What was said of workloads: it goes, or it is there.
pub type News = BTreeMap<Arc<str>, bool>;

/// How many workloads are remembered as leaving; above, callers find out themselves.
pub const MOST_LEAVING: usize = 10_000;

/// A sidecar that has connected so lately, and not said that it goes, is there, whatever another replica keeps of the time
/// before it.
const ARRIVED: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Book {
    /// What all replicas keep, as far as it is known here.
    kept: Leaving,
    /// What was said here and is not known to be kept.
    news: News,
}

impl Book {
    fn leaves(&self, node: &str) -> bool {
        self.news.get(node).copied().unwrap_or_else(|| self.kept.contains(node))
    }

    /// Whether that is new.
    fn says(&mut self, node: &str, leaves: bool) -> bool {
        if self.leaves(node) == leaves || (leaves && self.kept.len() + self.news.len() >= MOST_LEAVING) {
            return false;
        }
        // Also what seems to be kept already: it may be on the way there at this moment, and must follow.
        self.news.insert(node.into(), leaves);
        true
    }

    fn all(&self) -> Leaving {
        let mut all = self.kept.clone();
        for (node, leaves) in &self.news {
            if *leaves {
                all.insert(node.clone())
            } else {
                all.remove(node)
            };
        }
        all
    }
}

impl Fleet {
    /// Who leaves, now and from now on. A workload is on the list until a sidecar of it connects again, to any replica.
    pub fn leaving(&self) -> watch::Receiver<Arc<Leaving>> {
        self.leaving.subscribe()
    }

    /// Wakes when there is something to keep.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// What was said here and is not kept yet.
    pub fn news(&self) -> News {
        self.book.lock().news.clone()
    }

    /// All replicas keep this now, and `written` is settled by it.
    pub fn kept(&self, kept: Leaving, written: &News) {
        let here = self.arrived(&kept, Instant::now());
        let mut book = self.book.lock();
        book.kept = kept;
        book.news.retain(|node, leaves| written.get(node) != Some(leaves));
        let mut more = false;
        for node in here {
            more |= book.says(&node, false);
        }
        self.publish(&book, more);
    }

    /// Those of `kept` that have come here a moment ago.
    fn arrived(&self, kept: &Leaving, now: Instant) -> Vec<Arc<str>> {
        if kept.is_empty() {
            return Vec::new();
        }
        let inner = self.inner.lock();
        let lately = inner.connected.values().filter(|c| !c.leaves && now.duration_since(c.arrived) < ARRIVED);
        lately.filter_map(|c| kept.get(&*c.who.node).cloned()).collect()
    }

    fn mark(&self, node: &str, leaves: bool) {
        let mut book = self.book.lock();
        if !book.says(node, leaves) {
            return;
        }
        self.leaving.send_modify(|all| {
            let all = Arc::make_mut(all);
            let _ = if leaves { all.insert(node.into()) } else { all.remove(node) };
        });
        self.told.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn publish(&self, book: &Book, more: bool) {
        let all = book.all();
        self.leaving.send_if_modified(|before| {
            let differs = **before != all;
            if differs {
                *before = Arc::new(all);
            }
            differs
        });
        if more {
            self.told.send_modify(|n| *n = n.wrapping_add(1));
        }
    }
}

impl Seat {
    /// The proxy goes down, and its workload with it.
    pub fn leaves(&self) {
        self.says(true);
    }

    /// The proxy has come to stay: whatever was said of its workload before is over.
    pub fn stays(&self) {
        self.says(false);
    }

    fn says(&self, leaves: bool) {
        let node = self.fleet.inner.lock().connected.get_mut(&self.id).map(|c| {
            c.leaves = leaves;
            c.who.node.clone()
        });
        if let Some(node) = node {
            self.fleet.mark(&node, leaves);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::who, *};
    use crate::metrics::Metrics;

    fn set(nodes: &[&str]) -> Leaving {
        nodes.iter().map(|n| Arc::from(*n)).collect()
    }

    fn leaving(fleet: &Fleet) -> String {
        fleet.leaving().borrow().iter().map(|n| &**n).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_workload_leaves_until_a_sidecar_of_it_stays_again() {
        let fleet = Fleet::new(Metrics::default());
        let (a, b) = (fleet.connect(who("demo/a")), fleet.connect(who("demo/b")));
        a.leaves();
        a.leaves();
        assert_eq!(leaving(&fleet), "demo/a");
        drop(a);
        drop(b);
        assert_eq!(leaving(&fleet), "demo/a", "it said so, and is gone: nobody is there");
        let again = fleet.connect(who("demo/a"));
        assert_eq!(leaving(&fleet), "demo/a", "it may have moved here in the middle of it");
        again.stays();
        assert_eq!(leaving(&fleet), "");
    }

    #[test]
    fn what_others_keep_counts_and_what_is_said_here_counts_before_it_is_kept() {
        let fleet = Fleet::new(Metrics::default());
        fleet.kept(set(&["demo/a", "demo/b"]), &News::new());
        let b = fleet.connect(who("demo/b"));
        b.stays();
        fleet.connect(who("demo/c")).leaves();
        assert_eq!(leaving(&fleet), "demo/a demo/c");
        let written = fleet.news();
        assert_eq!(written, News::from([("demo/b".into(), false), ("demo/c".into(), true)]));
        // It comes back while this is written.
        fleet.connect(who("demo/c")).stays();
        fleet.kept(set(&["demo/a", "demo/c"]), &written);
        assert_eq!((leaving(&fleet).as_str(), fleet.news()), ("demo/a", News::from([("demo/c".into(), false)])));
        fleet.kept(set(&["demo/a"]), &fleet.news());
        assert_eq!((leaving(&fleet).as_str(), fleet.news()), ("demo/a", News::new()));
    }

    #[test]
    fn who_has_just_come_is_not_marked_by_what_was_said_before() {
        let fleet = Fleet::new(Metrics::default());
        let _seat = fleet.connect(who("demo/a"));
        // Another replica was told a moment ago, and could keep it only now.
        fleet.kept(set(&["demo/a"]), &News::new());
        assert_eq!((leaving(&fleet).as_str(), fleet.news()), ("", News::from([("demo/a".into(), false)])));
        let goes = fleet.connect(who("demo/b"));
        goes.leaves();
        fleet.kept(set(&["demo/b"]), &fleet.news());
        assert_eq!(leaving(&fleet), "demo/b");
    }

    #[test]
    fn the_list_has_an_end() {
        let fleet = Fleet::new(Metrics::default());
        for n in 0..MOST_LEAVING + 5 {
            fleet.mark(&format!("demo/{n}"), true);
        }
        assert_eq!(fleet.leaving().borrow().len(), MOST_LEAVING);
    }
}
