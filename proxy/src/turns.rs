//! Long pieces of work take turns, so that a crowd of them does not keep everyone else waiting.
//!
//! A request on an open connection is a few wake-ups of some microseconds each. Two things that a data thread does are a
//! hundred times as long: a step of a handshake (a tenth of a millisecond to half of one), and a stretch of a body that
//! comes as fast as it can be read ([`STRETCH`]). Where many of them are ready at once (a client opens 256 streams, each
//! of which needs a connection of its own; an application answers sixty-four requests without end), all of them stand in
//! the runtime's queue, and each wake-up of a request waits behind all of them. So one piece of each kind is let through in
//! each turn of the runtime: in between, whatever else is ready runs, and sockets are looked at. Up to [`CROWD`] handshakes run as
//! they come.
//!
//! What is rationed is work, not places: who waits for its peer holds nothing up, so that a dead endpoint never stands in
//! the way of a live one.

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
/// After so many bytes that came in large pieces, a connection waits for its turn, where few others haul.
const STRETCH: usize = 256 * 1024;
/// What came in smaller pieces is no haul.
const LARGE: usize = 4 * 1024;
/// After so many of them a haul has ended.
const FEW: u8 = 8;

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
    /// Connections that haul.
    hauling: usize,
    /// A piece was let through in this turn, and the next turn comes.
    taken: bool,
    /// Those of each kind that wait: of handshakes those that have begun, so that they are through soon, and of these the
    /// oldest; stretches in the order of their coming. Not more than there are connections: who is dropped leaves.
    waiting: [BTreeMap<u64, Waker>; 2],
    next: u64,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// A step of a handshake.
    Step,
    /// A stretch of a body.
    Stretch,
}

/// A place among those that take turns.
#[derive(Debug)]
struct Place {
    pace: Arc<Pace>,
    piece: Piece,
    /// Its place in the queue.
    ticket: u64,
    waits: bool,
}

/// Handshakes that have not begun come after all that have.
const NEW: u64 = 1 << 63;

impl Place {
    fn new(piece: Piece) -> Self {
        let pace = PACE.with(Arc::clone);
        let mut turns = pace.0.lock();
        let ticket = turns.next | if piece == Piece::Step { NEW } else { 0 };
        turns.next += 1;
        drop(turns);
        Self { pace, piece, ticket, waits: false }
    }

    /// Whether it is this one's turn; if not, it is woken when it is. `at_once`: it need not wait when nobody does.
    fn may_go(&mut self, waker: &Waker, at_once: impl FnOnce(&mut Turns) -> bool) -> bool {
        let mut turns = self.pace.0.lock();
        if self.waits {
            if let Some(waiting) = turns.waiting[self.piece as usize].get_mut(&self.ticket) {
                waiting.clone_from(waker);
                return false;
            }
            // Taken out of the queue: this is its turn.
            self.waits = false;
            return true;
        }
        let goes = at_once(&mut turns);
        if !goes {
            turns.waiting[self.piece as usize].insert(self.ticket, waker.clone());
            self.waits = true;
        }
        let begins = !turns.taken && (!goes || turns.under_way > CROWD);
        turns.taken |= begins;
        drop(turns);
        if begins {
            tokio::spawn(turn_by_turn(self.pace.clone()));
        }
        goes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waits {
            let waker = self.pace.0.lock().waiting[self.piece as usize].remove(&self.ticket);
            // Whoever has let go of the place has not looked at anything else that would wake it.
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

pin_project_lite::pin_project! {
    /// A handshake that takes turns with others of its thread.
    pub(crate) struct Paced<F> {
        #[pin]
        handshake: F,
        place: UnderWay,
    }
}

/// A handshake's place.
struct UnderWay(Place);

/// `handshake`, in turns. What it does at each poll should be one step of a handshake.
pub(crate) fn paced<F: Future>(handshake: F) -> Paced<F> {
    let place = Place::new(Piece::Step);
    place.pace.0.lock().under_way += 1;
    Paced { handshake, place: UnderWay(place) }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let few = |turns: &mut Turns| {
            turns.waiting[Piece::Step as usize].is_empty() && turns.under_way <= CROWD || !turns.taken
        };
        if !this.place.0.may_go(context.waker(), few) {
            return Poll::Pending;
        }
        this.place.0.ticket &= !NEW;
        this.handshake.poll(context)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.pace.0.lock().under_way -= 1;
    }
}

/// What a connection hauls: a stretch, then it waits for its turn.
#[derive(Debug, Default)]
pub(crate) struct Haul {
    read: usize,
    /// Small pieces since the last large one.
    small: u8,
    /// Made when it is needed: most connections never haul.
    place: Option<Box<Hauling>>,
}

/// The place of one that hauls.
#[derive(Debug)]
struct Hauling(Place);

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
        self.place.get_or_insert_with(|| {
            let place = Place::new(Piece::Stretch);
            place.pace.0.lock().hauling += 1;
            Box::new(Hauling(place))
        });
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
        let Some(Hauling(place)) = self.place.as_deref_mut() else { return Poll::Ready(()) };
        if self.read < stretch(place.pace.0.lock().hauling) {
            return Poll::Ready(());
        }
        if !place.may_go(context.waker(), |_| false) {
            return Poll::Pending;
        }
        self.read = 0;
        Poll::Ready(())
    }
}

impl Drop for Hauling {
    fn drop(&mut self) {
        self.0.pace.0.lock().hauling -= 1;
    }
}

/// How much comes at a time where so many haul: the more they are, the less, since each has a stretch before its first
/// turn.
fn stretch(hauling: usize) -> usize {
    STRETCH >> (hauling / CROWD).min(3)
}

/// Lets one piece through in each turn, until nobody waits. A task that yields runs again when all that was ready has run
/// and the sockets have been looked at.
async fn turn_by_turn(pace: Arc<Pace>) {
    let _end = End(pace.clone());
    loop {
        tokio::task::yield_now().await;
        let next = pace.0.lock().waiting.each_mut().map(BTreeMap::pop_first);
        if next.iter().all(Option::is_none) {
            return;
        }
        next.into_iter().flatten().for_each(|(_, waker)| waker.wake());
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
        left.into_iter().flat_map(BTreeMap::into_values).for_each(Waker::wake);
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
            assert_eq!(
                (turns.under_way, turns.waiting[0].len(), turns.taken),
                (0, 0, false),
                "nothing is left of them"
            );
        });
    }
}
