//! Handshakes take turns, so that a crowd of them does not keep everyone else waiting.
//!
//! A step of a handshake is the longest piece of work that a data thread does at a time: a tenth of a millisecond to
//! half of one, a hundred times what a request takes. Where hundreds begin at once (a client opens 256 streams, each of
//! which needs a connection of its own), all of them stand in the runtime's queue, and each of the wake-ups of a request
//! on an open connection waits behind all of them. So from [`CROWD`] handshakes on, one step is let through in each turn
//! of the runtime: in between, whatever else is ready runs, and sockets are looked at.
//!
//! What is rationed is work, not places: a handshake that waits for its peer holds nothing up, so that a dead endpoint
//! never stands in the way of a live one.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// So many handshakes of one thread run as they come.
const CROWD: usize = 8;

thread_local! {
    static PACE: Arc<Pace> = Arc::default();
}

/// The turns of one thread.
#[derive(Debug, Default)]
struct Pace(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// Handshakes that are under way.
    under_way: usize,
    /// A step was let through in this turn.
    taken: bool,
    /// Those that wait, in the order of their coming. Not more than are under way: who is dropped leaves.
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

pin_project_lite::pin_project! {
    /// A handshake that takes turns with others of its thread.
    pub(super) struct Paced<F> {
        #[pin]
        handshake: F,
        place: Place,
    }
}

/// One handshake's place among the others.
struct Place {
    pace: Arc<Pace>,
    ticket: Option<u64>,
}

/// `handshake`, in turns. What it does at each poll should be one step of a handshake.
pub(super) fn paced<F: Future>(handshake: F) -> Paced<F> {
    let pace = PACE.with(Arc::clone);
    pace.0.lock().under_way += 1;
    Paced { handshake, place: Place { pace, ticket: None } }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if !this.place.may_go(context.waker()) {
            return Poll::Pending;
        }
        this.handshake.poll(context)
    }
}

impl Place {
    /// Whether it is this one's turn; if not, it is woken when it is.
    fn may_go(&mut self, waker: &Waker) -> bool {
        let mut turns = self.pace.0.lock();
        if let Some(ticket) = self.ticket {
            if let Some(waiting) = turns.waiting.get_mut(&ticket) {
                waiting.clone_from(waker);
                return false;
            }
            // Taken out of the queue: this is its turn.
            self.ticket = None;
            return true;
        }
        if turns.under_way <= CROWD && turns.waiting.is_empty() {
            return true;
        }
        if !turns.taken {
            turns.taken = true;
            drop(turns);
            tokio::spawn(turn_by_turn(self.pace.clone()));
            return true;
        }
        let ticket = turns.next;
        turns.next += 1;
        turns.waiting.insert(ticket, waker.clone());
        self.ticket = Some(ticket);
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut turns = self.pace.0.lock();
        turns.under_way -= 1;
        if let Some(ticket) = self.ticket {
            turns.waiting.remove(&ticket);
        }
    }
}

/// Lets one step through in each turn, until nobody waits. A task that yields runs again when all that was ready has run
/// and the sockets have been looked at.
async fn turn_by_turn(pace: Arc<Pace>) {
    let _end = End(pace.clone());
    loop {
        tokio::task::yield_now().await;
        let Some((_, next)) = pace.0.lock().waiting.pop_first() else { return };
        next.wake();
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

    /// Something that needs `steps` polls, each of which it asks for itself, as if its peer answered at once.
    async fn steps(steps: usize, done: Arc<AtomicUsize>) {
        for _ in 0..steps {
            done.fetch_add(1, Relaxed);
            let mut yielded = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut yielded, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn a_crowd_leaves_room_for_others() {
        run(async {
            let done = Arc::new(AtomicUsize::new(0));
            let crowd: Vec<_> = (0..300).map(|_| tokio::spawn(paced(steps(3, done.clone())))).collect();
            // A request: ten wake-ups one after the other.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(done.load(Relaxed) <= 25, "{done:?} steps before a request of ten wake-ups was through");
            for handshake in crowd {
                handshake.await.unwrap();
            }
            assert_eq!(done.load(Relaxed), 900, "and all of them come to their end");
        });
    }

    #[test]
    fn a_few_do_not_wait() {
        run(async {
            let done = Arc::new(AtomicUsize::new(0));
            for _ in 0..CROWD {
                tokio::spawn(paced(steps(1, done.clone())));
            }
            tokio::task::yield_now().await;
            assert_eq!(done.load(Relaxed), CROWD);
        });
    }

    #[test]
    fn who_waits_for_a_dead_peer_holds_nobody_up() {
        run(async {
            let done = Arc::new(AtomicUsize::new(0));
            let dead: Vec<_> = (0..300).map(|_| tokio::spawn(paced(std::future::pending::<()>()))).collect();
            tokio::spawn(paced(steps(5, done.clone()))).await.unwrap();
            assert_eq!(done.load(Relaxed), 5);
            for handshake in &dead {
                handshake.abort();
            }
            for handshake in dead {
                assert!(handshake.await.unwrap_err().is_cancelled());
            }
            let pace = PACE.with(Arc::clone);
            tokio::task::yield_now().await;
            let turns = pace.0.lock();
            assert_eq!((turns.under_way, turns.waiting.len(), turns.taken), (0, 0, false), "nothing is left of them");
        });
    }
}
