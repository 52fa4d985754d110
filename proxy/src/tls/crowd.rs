//! Handshakes of a crowd are made by a thread of their own, which comes last.
//!
//! A request on an open connection is a few wake-ups of some microseconds each; a handshake is a hundred times as long.
//! Where many are wanted at once (everyone connects again, a client opens 256 streams each of which needs a connection),
//! who is in a conversation would wait behind all of them: in the queue of its data thread, and, where processors are
//! few, for those of the threads that it needs next. So a data thread makes [`FEW`] at a time by itself, one while there
//! are conversations, and hands the others to a thread beside it that comes after it, but has its share ([`NICE`]). Of
//! those it has, what has begun goes first, so that it is through soon. It shares locks with its data thread (the queue's,
//! those of tokio's sockets and of TLS's sessions), so it must never be without a processor for long: `SCHED_IDLE` would
//! hold up whoever waits for it. A long slice ([`SLICE`]) lets others in as soon as they wake, and takes nothing from it.
//! Beside conversations it also pauses, for [`REST`] times as long as it works: a processor that both sides of a
//! conversation, the application and this thread want is never free when the next request comes, whoever comes last. That
//! is for a crowd that is soon over; one that goes on for longer than [`SPELL`] has waited enough, and is made without.
//!
//! What is rationed is work, not places: who waits for its peer holds nobody up, so that a dead endpoint never stands in
//! the way of a live one.

use crate::sys;
use parking_lot::{Condvar, Mutex};
use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    ops::RangeInclusive,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// So many handshakes of a data thread are made by itself, where nobody is in a conversation on it.
const FEW: usize = 8;
/// And so many where somebody is.
const FEWER: usize = 1;
/// A conversation goes on for so long after each answer.
const PAUSE: Duration = Duration::from_millis(100);
/// By so much (nice(2)) that thread comes after the data threads: a tenth of a processor which all want.
const NICE: i32 = 10;
/// Its slice of a processor: others have some milliseconds, and whoever has a shorter one and wakes does not wait for it.
const SLICE: Duration = Duration::from_millis(20);
/// Beside conversations, so many times as long as it has worked it rests: a fifth of a processor is its own.
const REST: u32 = 4;
/// It is not worth resting for less, and a step that was held up is not rested for longer.
const RESTS: RangeInclusive<Duration> = Duration::from_micros(250)..=Duration::from_millis(5);
/// After so long a crowd is made without a rest.
const SPELL: Duration = Duration::from_secs(1);
/// So long it waits for another crowd.
const PATIENCE: Duration = Duration::from_secs(10);
/// What has not begun comes after all that has.
const NEW: u64 = 1 << 63;

thread_local! {
    static CROWD: Arc<Crowd> = Arc::default();
    static TALK: Talk = Talk::default();
}

/// Whether anybody is in a conversation on a data thread. It costs a request no look at the clock: who was answered since
/// the last handshake was answered just now.
#[derive(Default)]
struct Talk {
    answers: Cell<u64>,
    seen: Cell<u64>,
    last: Cell<Option<Instant>>,
}

impl Talk {
    fn goes_on(&self, now: Instant) -> bool {
        if self.seen.replace(self.answers.get()) != self.answers.get() {
            self.last.set(Some(now));
        }
        self.last.get().is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
    }
}

/// A client of this thread that had been answered before has been again.
pub(crate) fn answered_again() {
    TALK.with(|talk| talk.answers.set(talk.answers.get().wrapping_add(1)));
}

/// The handshakes of one data thread.
#[derive(Default)]
struct Crowd {
    state: Mutex<State>,
    come: Condvar,
}

#[derive(Default)]
struct State {
    /// All of the data thread, wherever they are made.
    under_way: usize,
    /// Those that have something to do. Not more than there are connections.
    ready: BTreeMap<u64, Arc<Handshake>>,
    /// How many were handed over.
    handed: u64,
    /// There is a thread that makes them.
    served: bool,
    /// Somebody was in a conversation when the last one came.
    beside_talk: bool,
}

/// A handshake that was handed over.
struct Handshake {
    crowd: Arc<Crowd>,
    /// Its place in the queue.
    place: AtomicU64,
    future: Mutex<Option<Rest>>,
}

/// What is left of a handshake.
type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The output of `handshake`, wherever it is made. Whoever lets go of this ends it.
///
/// # Errors
/// If the thread that made it has ended over it.
pub(super) fn made<F>(handshake: F) -> impl Future<Output = io::Result<F::Output>> + Send
where
    F: Future<Output: Send> + Send + 'static,
{
    made_with(handshake, spawn)
}

/// Starts a thread that serves.
type Spawn = fn(Arc<Crowd>) -> io::Result<()>;

fn spawn(crowd: Arc<Crowd>) -> io::Result<()> {
    thread::Builder::new().name("handshakes".into()).spawn(move || crowd.serve()).map(drop)
}

fn made_with<F>(handshake: F, spawn: Spawn) -> impl Future<Output = io::Result<F::Output>> + Send
where
    F: Future<Output: Send> + Send + 'static,
{
    // Large, and it would be in the future of whoever waits for it.
    let handshake = Box::pin(handshake);
    async move {
        let under_way = UnderWay::new();
        if under_way.is_one_of_few() {
            return Ok(handshake.await);
        }
        let (mut done, output) = oneshot::channel();
        let future: Rest = Box::pin(async move {
            tokio::select! {
                biased;
                output = handshake => drop(done.send(output)),
                // Nobody waits for it any more.
                () = done.closed() => {}
            }
        });
        if let Err(future) = under_way.0.hand_over(future, spawn) {
            future.await;
        }
        output.await.map_err(io::Error::other)
    }
}

struct UnderWay(Arc<Crowd>);

impl UnderWay {
    fn new() -> Self {
        let crowd = CROWD.with(Arc::clone);
        crowd.state.lock().under_way += 1;
        Self(crowd)
    }

    fn is_one_of_few(&self) -> bool {
        let talk = TALK.with(|talk| talk.goes_on(Instant::now()));
        let mut state = self.0.state.lock();
        state.beside_talk = talk;
        state.under_way <= if talk { FEWER } else { FEW }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state.lock().under_way -= 1;
    }
}

impl Crowd {
    /// Gives it back where there can be no thread for it.
    fn hand_over(self: &Arc<Self>, future: Rest, spawn: Spawn) -> Result<(), Rest> {
        let mut state = self.state.lock();
        if !state.served {
            if let Err(error) = spawn(self.clone()) {
                tracing::debug!(%error, "there is no thread for a crowd's handshakes");
                return Err(future);
            }
            state.served = true;
        }
        let place = state.handed | NEW;
        state.handed += 1;
        let handshake =
            Handshake { crowd: self.clone(), place: AtomicU64::new(place), future: Mutex::new(Some(future)) };
        state.ready.insert(place, Arc::new(handshake));
        drop(state);
        self.come.notify_one();
        Ok(())
    }

    /// Makes handshakes until none is under way any more and none has come for a while.
    fn serve(&self) {
        sys::come_after(NICE, SLICE);
        let mut pace = Pace::default();
        let mut state = self.state.lock();
        loop {
            if let Some((_, handshake)) = state.ready.pop_first() {
                let beside_talk = state.beside_talk;
                drop(state);
                let begun = Instant::now();
                handshake.step();
                if let Some(rest) = pace.worked(begun, Instant::now()).filter(|_| beside_talk) {
                    thread::sleep(rest);
                }
                state = self.state.lock();
            } else if self.come.wait_for(&mut state, PATIENCE).timed_out()
                && state.ready.is_empty()
                && state.under_way == 0
            {
                state.served = false;
                return;
            }
        }
    }
}

/// How a thread shares a processor with conversations.
#[derive(Default)]
struct Pace {
    /// When this crowd began, and when there was last something to do for it.
    crowd: Option<(Instant, Instant)>,
    /// What it has not rested for.
    owed: Duration,
}

impl Pace {
    /// A step was made: how long to rest after it.
    fn worked(&mut self, from: Instant, to: Instant) -> Option<Duration> {
        let begun = match self.crowd {
            Some((begun, last)) if from.saturating_duration_since(last) < PAUSE => begun,
            _ => from,
        };
        self.crowd = Some((begun, to));
        if to.saturating_duration_since(begun) > SPELL {
            return None;
        }
        self.owed += to.saturating_duration_since(from) * REST;
        (self.owed >= *RESTS.start()).then(|| std::mem::take(&mut self.owed).min(*RESTS.end()))
    }
}

impl Handshake {
    fn step(self: Arc<Self>) {
        self.place.fetch_and(!NEW, Relaxed);
        let waker = Waker::from(self.clone());
        let mut future = self.future.lock();
        if future.as_mut().is_some_and(|future| future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()) {
            *future = None;
        }
    }
}

impl Wake for Handshake {
    fn wake(self: Arc<Self>) {
        let crowd = self.crowd.clone();
        let mut state = crowd.state.lock();
        // Where nobody serves nobody waits for it: it was given up.
        if state.served {
            state.ready.insert(self.place.load(Relaxed), self);
            drop(state);
            crowd.come.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::AtomicUsize,
        task::Poll,
        thread::{ThreadId, current},
    };
    use tokio::task::JoinHandle;

    /// One step of a handshake: its peer answers at once.
    async fn step() {
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

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// The others wait for their peers meanwhile.
    fn few() -> Vec<JoinHandle<io::Result<()>>> {
        (0..FEW).map(|_| tokio::spawn(made(std::future::pending()))).collect()
    }

    /// How the kernel schedules this thread: policy and niceness (proc_pid_stat(5)).
    fn scheduled() -> (u32, i32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (after_name[38].parse().unwrap(), after_name[16].parse().unwrap())
    }

    async fn all_of<T: 'static>(handshakes: Vec<JoinHandle<io::Result<T>>>) -> Vec<T> {
        let mut all = vec![];
        for handshake in handshakes {
            let handshake = tokio::time::timeout(Duration::from_secs(20), handshake).await;
            all.push(handshake.expect("it is made").unwrap().unwrap());
        }
        all
    }

    #[test]
    fn a_data_thread_makes_a_few_and_one_that_comes_last_the_others() {
        run(async {
            let mut by = std::collections::HashMap::<ThreadId, usize>::new();
            let crowd = (0..300).map(|_| {
                tokio::spawn(made(async {
                    for _ in 0..3 {
                        step().await;
                    }
                    (current().id(), scheduled())
                }))
            });
            let own = scheduled();
            for (thread, scheduled) in all_of(crowd.collect()).await {
                *by.entry(thread).or_default() += 1;
                match (thread == current().id(), scheduled) {
                    (true, scheduled) => assert_eq!(scheduled, own),
                    (false, scheduled) => assert_eq!(scheduled, (own.0, (own.1 + NICE).min(19))),
                }
            }
            assert_eq!(by.remove(&current().id()), Some(FEW));
            assert_eq!(by.values().sum::<usize>(), 300 - FEW);
            let state = CROWD.with(Arc::clone);
            let state = state.state.lock();
            assert_eq!((state.under_way, state.ready.len()), (0, 0), "nothing is left of them");
        });
    }

    #[test]
    fn where_there_can_be_no_thread_it_makes_them_all() {
        run(async {
            let few = few();
            tokio::task::yield_now().await;
            let here = || async {
                step().await;
                current().id()
            };
            let none: Spawn = |_| Err(io::ErrorKind::WouldBlock.into());
            let by = all_of((0..20).map(|_| tokio::spawn(made_with(here(), none))).collect()).await;
            assert!(by.iter().all(|thread| *thread == current().id()));
            // And it is tried again.
            let by = all_of((0..20).map(|_| tokio::spawn(made(here()))).collect()).await;
            assert!(by.iter().all(|thread| *thread != current().id()));
            few.iter().for_each(JoinHandle::abort);
        });
    }

    #[test]
    fn beside_a_conversation_it_makes_one() {
        run(async {
            let by_itself = || async {
                let crowd = (0..50).map(|_| {
                    tokio::spawn(made(async {
                        step().await;
                        current().id()
                    }))
                });
                all_of(crowd.collect()).await.into_iter().filter(|thread| *thread == current().id()).count()
            };
            answered_again();
            assert_eq!(by_itself().await, FEWER);
            tokio::time::sleep(PAUSE).await;
            assert_eq!(by_itself().await, FEW, "the conversation is over");
        });
    }

    #[test]
    fn it_rests_for_longer_than_it_works_and_a_crowd_that_goes_on_does_not_wait() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let step = Duration::from_micros(150);
        let (mut now, mut worked, mut made) = (start, Duration::ZERO, 0);
        while now < start + SPELL {
            let rest = pace.worked(now, now + step).unwrap_or_default();
            (now, worked, made) = (now + step + rest, worked + step, made + 1);
        }
        let share = worked.as_secs_f64() / now.duration_since(start).as_secs_f64();
        assert!((0.19..0.22).contains(&share), "{share} of a processor, {made} steps");
        let long = Duration::from_secs(3);
        assert_eq!(pace.worked(now, now + long), None, "this crowd has waited enough");
        let next = now + long + PAUSE;
        assert_eq!(pace.worked(next, next + step), Some(step * REST), "and this is another");
        assert_eq!(pace.worked(next + step, next + long / 10), Some(*RESTS.end()), "it was held up itself");
    }

    #[test]
    fn beside_a_conversation_the_thread_rests() {
        run(async {
            let work = || async {
                step().await;
                let until = Instant::now() + Duration::from_millis(1);
                while Instant::now() < until {}
            };
            answered_again();
            let begun = Instant::now();
            all_of((0..60).map(|_| tokio::spawn(made(work()))).collect()).await;
            let took = begun.elapsed();
            assert!(took > Duration::from_millis(50) * (1 + REST), "{took:?}");
        });
    }

    #[test]
    fn what_has_begun_goes_first() {
        run(async {
            let few = few();
            tokio::task::yield_now().await;
            let order = Arc::new(Mutex::new(vec![]));
            let crowd = (0..20).map(|n| {
                let order = order.clone();
                tokio::spawn(made(async move {
                    if n == 0 {
                        // All are there before the second begins.
                        thread::sleep(Duration::from_millis(50));
                    }
                    for _ in 0..3 {
                        order.lock().push(n);
                        step().await;
                    }
                }))
            });
            all_of(crowd.collect()).await;
            assert!(order.lock().is_sorted(), "{order:?}");
            few.iter().for_each(JoinHandle::abort);
        });
    }

    #[test]
    fn who_waits_for_a_dead_peer_holds_nobody_up_and_who_is_given_up_is_forgotten() {
        struct Held(Arc<AtomicUsize>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        run(async {
            let held = Arc::new(AtomicUsize::new(300));
            let dead = (0..300).map(|_| {
                let held = Held(held.clone());
                tokio::spawn(made(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }))
            });
            let dead: Vec<_> = dead.collect();
            all_of((0..5).map(|_| tokio::spawn(made(step()))).collect()).await;
            assert_eq!(held.load(Relaxed), 300);
            dead.iter().for_each(JoinHandle::abort);
            let begun = Instant::now();
            while held.load(Relaxed) > 0 {
                assert!(begun.elapsed() < Duration::from_secs(20), "{held:?} are held");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(CROWD.with(Arc::clone).state.lock().under_way, 0);
        });
    }
}
