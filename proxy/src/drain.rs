//! Going down without losing a request: one trigger, many watchers; and the door that listeners keep.
//!
//! Whoever accepts or carries work holds a [`Watch`]. When the drain begins, it stops taking new work, finishes what it
//! has, and drops its watch; [`Trigger::gone`] returns when every watch has been dropped.
//!
//! A drain may be spread over time: each connection learns of it at a moment of its own ([`Watch::at_random`]), so that
//! callers do not all come back at one instant. The [`Door`] is apart from that: it is shut while another process may
//! take over the listening sockets, and opened again when that comes to nothing.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// How long a silent connection is kept for a request that may be on its way, unless something else is said.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether listeners accept. Connections wait in the kernel's queue while it is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// They do.
    Open,
    /// Not now.
    Shut,
    /// Not any more: another process has the sockets, and they are let go.
    Gone,
}

/// How a drain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// Over how long connections are told, each at its own moment.
    pub spread: Duration,
    /// Until when new connections are accepted.
    pub accept: Accept,
    /// How long a silent connection is kept then: longer than a request is on its way.
    pub patience: Duration,
}

/// Until when a listener that drains accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// So long: until everybody knows.
    For(Duration),
    /// Until nobody has been connected for so long: the application may still have calls to make.
    UntilQuiet(Duration),
}

impl How {
    /// All at once, nothing new.
    pub const AT_ONCE: Self = Self { spread: Duration::ZERO, accept: Accept::For(Duration::ZERO), patience: PATIENCE };
}

/// Makes the pair.
pub fn channel() -> (Trigger, Watch) {
    let (begin, begun) = watch::channel(None);
    let (alive, gone) = mpsc::channel(1);
    let flag = Arc::new(AtomicBool::new(false));
    (
        Trigger { begin, gone, flag: flag.clone() },
        Watch { begun, held: Arc::new(Held { flag, _alive: alive }), place: 0 },
    )
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Instant,
    how: How,
}

impl Begun {
    fn turn(&self, place: u16) -> Instant {
        self.at + self.how.spread.mul_f64(f64::from(place) / f64::from(u16::MAX))
    }
}

/// Begins the drain and waits for its end.
#[derive(Debug)]
pub struct Trigger {
    begin: watch::Sender<Option<Begun>>,
    flag: Arc<AtomicBool>,
    gone: mpsc::Receiver<()>,
}

impl Trigger {
    /// Begins at once, and returns `true` when all work is finished, `false` when `limit` is over first.
    pub async fn drain(mut self, limit: Duration) -> bool {
        self.begin();
        tokio::time::timeout(limit, self.gone()).await.is_ok()
    }

    /// Returns when all work is finished. May be asked again.
    pub async fn gone(&mut self) {
        // Nothing is ever sent: this ends when the last watch, and with it the last sender, has been dropped.
        let _ = self.gone.recv().await;
    }

    /// For who has less time than was thought when it began.
    pub fn hurry(&self) -> Hurry {
        Hurry { begin: self.begin.clone() }
    }

    /// For those who only want to know.
    pub fn signal(&self) -> Signal {
        Signal { begun: self.begin.subscribe() }
    }

    /// Begins at once, without waiting.
    pub fn begin(&self) {
        self.begin_as(How::AT_ONCE);
    }

    /// Begins; a drain that has begun goes on in this way.
    pub fn begin_as(&self, how: How) {
        // First: whoever is woken by the next line looks at it.
        self.flag.store(true, Ordering::Release);
        self.begin.send_modify(|begun| {
            let at = begun.map_or_else(Instant::now, |b: Begun| b.at);
            *begun = Some(Begun { at, how });
        });
    }
}

/// Makes a drain that has begun go faster.
#[derive(Debug)]
pub struct Hurry {
    begin: watch::Sender<Option<Begun>>,
}

impl Hurry {
    /// Silent connections are kept no longer than usual from now on.
    pub fn up(&self) {
        self.begin.send_modify(|begun| {
            if let Some(begun) = begun {
                *begun =
                    Begun { at: Instant::now(), how: How { spread: Duration::ZERO, patience: PATIENCE, ..begun.how } };
            }
        });
    }
}

/// Sees the drain, and does not hold up its end.
#[derive(Debug, Clone)]
pub struct Signal {
    begun: watch::Receiver<Option<Begun>>,
}

impl Signal {
    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.begun.borrow().is_some()
    }

    /// Returns when it has (or its trigger is gone).
    pub async fn begun(&mut self) {
        let _ = self.begun.wait_for(Option::is_some).await;
    }
}

/// Sees the drain, and holds up its end until dropped.
#[derive(Debug, Clone)]
pub struct Watch {
    begun: watch::Receiver<Option<Begun>>,
    held: Arc<Held>,
    /// Where its turn is in the time over which the drain is spread.
    place: u16,
}

/// What all watches share: a connection at rest keeps one, so it is small.
#[derive(Debug)]
struct Held {
    /// Whether the drain has begun, to be looked at for each request.
    flag: Arc<AtomicBool>,
    _alive: mpsc::Sender<()>,
}

impl Watch {
    /// One whose turn comes somewhere in the time over which the drain is spread.
    pub fn at_random(&self) -> Self {
        Self { place: rand::random(), ..self.clone() }
    }

    /// Whether the drain has begun anywhere.
    pub fn has_begun(&self) -> bool {
        self.held.flag.load(Ordering::Acquire)
    }

    /// Whether the drain has begun here.
    pub fn is_draining(&self) -> bool {
        self.held.flag.load(Ordering::Acquire) && self.has_its_turn()
    }

    #[cold]
    fn has_its_turn(&self) -> bool {
        self.begun.borrow().is_some_and(|begun| begun.turn(self.place) <= Instant::now())
    }

    /// Returns when the drain has begun (or its trigger is gone).
    pub async fn begun(&mut self) {
        let Ok(Some(begun)) = self.begun.wait_for(Option::is_some).await.map(|b| *b) else { return };
        if self.place != 0 {
            // In a box, here and below: every connection waits for this, and few see it.
            Box::pin(tokio::time::sleep_until(begun.turn(self.place))).await;
        }
    }

    /// Returns when the drain has begun, and says how it goes. `None`: its trigger is gone.
    pub async fn how(&mut self) -> Option<How> {
        let begun = self.begun.wait_for(Option::is_some).await.ok()?;
        begun.map(|b| b.how)
    }

    /// How long a silent connection is still to be kept.
    pub fn patience(&self) -> Duration {
        match *self.begun.borrow() {
            Some(begun) => (begun.turn(self.place) + begun.how.patience).saturating_duration_since(Instant::now()),
            None => PATIENCE,
        }
    }

    /// Returns when the drain has begun, and a silent connection has been kept long enough.
    pub async fn out_of_patience(&mut self) {
        self.begun().await;
        Box::pin(async {
            while !self.patience().is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(self.patience()) => {}
                    // Patience may become shorter.
                    changed = self.begun.changed() => if changed.is_err() { return },
                }
            }
        })
        .await;
    }

    /// Runs `work` to its end, or until the drain begins: for work that may be cut, such as an accept loop.
    pub async fn until_begun<F: Future>(mut self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.begun() => None,
            out = work => Some(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_drain_ends_when_the_last_watch_is_dropped() {
        let (trigger, watch) = channel();
        let mut second = watch.clone();
        assert!(!watch.is_draining());
        let drained = tokio::spawn(trigger.drain(Duration::from_secs(60)));
        second.begun().await;
        assert!(watch.is_draining());
        drop(second);
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        drop(watch);
        assert!(drained.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_drain_does_not_wait_for_ever() {
        let (trigger, watch) = channel();
        assert!(!trigger.drain(Duration::from_secs(5)).await);
        drop(watch);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_may_be_cut_is_cut() {
        let (trigger, watch) = channel();
        assert_eq!(watch.clone().until_begun(async { 1 }).await, Some(1));
        trigger.begin();
        assert_eq!(watch.until_begun(std::future::pending::<()>()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spread_drain_reaches_each_at_its_own_moment_and_all_in_time() {
        let (trigger, watch) = channel();
        let mut all: Vec<Watch> = (0..100).map(|_| watch.at_random()).collect();
        trigger.begin_as(How { spread: Duration::from_secs(10), ..How::AT_ONCE });
        tokio::time::advance(Duration::from_secs(5)).await;
        let half = all.iter().filter(|w| w.is_draining()).count();
        assert!((20..80).contains(&half), "{half} of 100 after half of the time");
        let late = all.iter().position(|w| !w.is_draining()).unwrap();
        let before = Instant::now();
        all[late].begun().await;
        assert!(Instant::now() > before && all[late].is_draining());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(all.iter().all(Watch::is_draining));
        assert!(watch.is_draining(), "who has no place learns at once");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_may_become_shorter() {
        let (trigger, watch) = channel();
        let long = How { patience: Duration::from_secs(120), ..How::AT_ONCE };
        trigger.begin_as(long);
        let began = Instant::now();
        let mut silent = watch.clone();
        let waiting = tokio::spawn(async move { silent.out_of_patience().await });
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!waiting.is_finished());
        trigger.hurry().up();
        waiting.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 32);
    }
}
