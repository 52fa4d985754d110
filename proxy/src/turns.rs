//! Bodies that come as fast as they can be read take turns, so that many of them do not keep everyone else waiting.
//!
//! A request on an open connection is a few wake-ups of some microseconds each; a stretch of a body that comes as fast as
//! it can be read ([`STRETCH`]) is a hundred times as long. Where many of them are ready at once (an application answers
//! sixty-four requests without end), all of them stand in the runtime's queue, and each wake-up of a request waits behind
//! all of them. So one stretch is let through in each turn of the runtime: in between, whatever else is ready runs, and
//! sockets are looked at.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// After so many bytes that came in large pieces, a connection waits for its turn, where few others haul.
const STRETCH: usize = 256 * 1024;
/// What came in smaller pieces is no haul.
const LARGE: usize = 4 * 1024;
/// After so many of them a haul has ended.
const FEW: u8 = 8;
/// Where more than so many haul, each has shorter stretches.
const CROWD: usize = 8;

thread_local! {
    static PACE: Arc<Pace> = Arc::default();
}

/// The turns of one thread.
#[derive(Debug, Default)]
struct Pace(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// Connections that haul.
    hauling: usize,
    /// A stretch was let through in this turn, and the next turn comes.
    taken: bool,
    /// Those that wait, in the order of their coming. Not more than there are connections: who is dropped leaves.
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

/// The place of a connection that hauls.
#[derive(Debug)]
struct Place {
    pace: Arc<Pace>,
    ticket: u64,
    waits: bool,
}

impl Place {
    fn new() -> Self {
        let pace = PACE.with(Arc::clone);
        let mut turns = pace.0.lock();
        let ticket = turns.next;
        turns.next += 1;
        turns.hauling += 1;
        drop(turns);
        Self { pace, ticket, waits: false }
    }

    /// Whether it is this one's turn; if not, it is woken when it is.
    fn may_go(&mut self, waker: &Waker) -> bool {
        let mut turns = self.pace.0.lock();
        if self.waits {
            if let Some(waiting) = turns.waiting.get_mut(&self.ticket) {
                waiting.clone_from(waker);
                return false;
            }
            // Taken out of the queue: this is its turn.
            self.waits = false;
            return true;
        }
        turns.waiting.insert(self.ticket, waker.clone());
        self.waits = true;
        let begins = !std::mem::replace(&mut turns.taken, true);
        drop(turns);
        if begins {
            tokio::spawn(turn_by_turn(self.pace.clone()));
        }
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut turns = self.pace.0.lock();
        turns.hauling -= 1;
        let waker = turns.waiting.remove(&self.ticket);
        drop(turns);
        // Whoever has let go of the place has not looked at anything else that would wake it.
        waker.into_iter().for_each(Waker::wake);
    }
}

/// What a connection hauls: a stretch, then it waits for its turn.
#[derive(Debug, Default)]
pub(crate) struct Haul {
    read: usize,
    /// Small pieces since the last large one.
    small: u8,
    /// Made when it is needed: most connections never haul.
    place: Option<Box<Place>>,
}

impl Haul {
    /// So much has been read in one piece.
    pub(crate) fn read(&mut self, length: usize) {
        if length < LARGE {
            self.small = self.small.saturating_add(1);
            if self.small >= FEW && self.place.is_some() {
                self.end();
            }
            return;
        }
        self.small = 0;
        self.read += length;
        self.place.get_or_insert_with(|| Box::new(Place::new()));
    }

    /// What was hauled has come to its end: what comes now is something else's beginning, and waits for nobody.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// Pending: it is others' turn.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.read == 0 {
            return Poll::Ready(());
        }
        let Some(place) = self.place.as_deref_mut() else { return Poll::Ready(()) };
        if self.read < stretch(place.pace.0.lock().hauling) {
            return Poll::Ready(());
        }
        if !place.may_go(context.waker()) {
            return Poll::Pending;
        }
        self.read = 0;
        Poll::Ready(())
    }
}

/// How much comes at a time where so many haul: the more they are, the less, since each has a stretch before its first
/// turn.
fn stretch(hauling: usize) -> usize {
    STRETCH >> (hauling / CROWD).min(3)
}

/// Lets one stretch through in each turn, until nobody waits. A task that yields runs again when all that was ready has run
/// and the sockets have been looked at.
async fn turn_by_turn(pace: Arc<Pace>) {
    let _end = End(pace.clone());
    loop {
        tokio::task::yield_now().await;
        let next = pace.0.lock().waiting.pop_first();
        let Some((_, waker)) = next else { return };
        waker.wake();
    }
}

/// However the turns end (the runtime may): nobody is left waiting for them.
struct End(Arc<Pace>);

impl Drop for End {
    fn drop(&mut self) {
        let mut turns = self.0.0.lock();
        turns.taken = false;
        let left = std::mem::take(&mut turns.waiting);
        drop(turns);
        left.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn hauls_leave_room_for_others() {
        run(async {
            let hauled = Arc::new(AtomicUsize::new(0));
            let haul = || {
                let hauled = hauled.clone();
                async move {
                    let mut haul = Haul::default();
                    for _ in 0..20 {
                        std::future::poll_fn(|context| haul.poll(context)).await;
                        haul.read(stretch(48) / 2);
                        hauled.fetch_add(1, Relaxed);
                    }
                }
            };
            let hauls: Vec<_> = (0..48).map(|_| tokio::spawn(haul())).collect();
            tokio::task::yield_now().await;
            let first = hauled.load(Relaxed);
            assert!(first <= 48 * 16, "{first} pieces: a stretch each, shorter the more they are");
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let then = hauled.load(Relaxed) - first;
            assert!((2..=25).contains(&then), "{then} pieces while a request of ten wake-ups was through");
            for haul in hauls {
                haul.await.unwrap();
            }
            assert_eq!(hauled.load(Relaxed), 48 * 20, "and all of them come to their end");
            assert_eq!(PACE.with(Arc::clone).0.lock().hauling, 0, "and are forgotten");
        });
    }

    #[test]
    fn what_begins_anew_waits_for_nobody() {
        run(async {
            let mut haul = Haul::default();
            (0..10_000).for_each(|_| haul.read(LARGE - 1));
            assert!(std::future::poll_fn(|context| Poll::Ready(haul.poll(context))).await.is_ready(), "no haul");
            haul.read(STRETCH);
            assert!(std::future::poll_fn(|context| Poll::Ready(haul.poll(context))).await.is_pending(), "a haul");
            haul.end();
            assert!(
                std::future::poll_fn(|context| Poll::Ready(haul.poll(context))).await.is_ready(),
                "the next message"
            );
            haul.read(STRETCH);
            (0..FEW).for_each(|_| haul.read(1));
            assert!(std::future::poll_fn(|context| Poll::Ready(haul.poll(context))).await.is_ready(), "other messages");
        });
    }

    #[test]
    fn who_lets_go_of_its_place_is_woken() {
        run(async {
            let mut haul = Haul::default();
            haul.read(STRETCH);
            let woken = tokio::spawn(std::future::poll_fn(move |context| {
                if haul.read == 0 {
                    return Poll::Ready(());
                }
                assert!(haul.poll(context).is_pending());
                haul.end();
                Poll::Pending
            }));
            tokio::time::timeout(std::time::Duration::from_secs(5), woken).await.unwrap().unwrap();
        });
    }
}
