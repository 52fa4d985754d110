//! Going down without losing a request: one trigger, many watchers.
//!
//! Whoever accepts or carries work holds a [`Watch`]. When the drain begins, it stops taking new work, finishes what it
//! has, and drops its watch; [`Trigger::drain`] is over when every watch has been dropped.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Makes the pair.
pub fn channel() -> (Trigger, Watch) {
    let (begin, begun) = watch::channel(false);
    let (alive, gone) = mpsc::channel(1);
    let flag = Arc::new(AtomicBool::new(false));
    (Trigger { begin, gone, flag: flag.clone() }, Watch { begun, flag, _alive: alive })
}

/// Begins the drain and waits for its end.
#[derive(Debug)]
pub struct Trigger {
    begin: watch::Sender<bool>,
    flag: Arc<AtomicBool>,
    gone: mpsc::Receiver<()>,
}

impl Trigger {
    /// Begins, and returns `true` when all work is finished, `false` when `limit` is over first.
    pub async fn drain(mut self, limit: Duration) -> bool {
        self.begin();
        // Nothing is ever sent: this ends when the last watch, and with it the last sender, has been dropped.
        tokio::time::timeout(limit, self.gone.recv()).await.is_ok()
    }

    /// For those who only want to know.
    pub fn signal(&self) -> Signal {
        Signal { begun: self.begin.subscribe() }
    }

    /// Begins without waiting.
    pub fn begin(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.begin.send_replace(true);
    }
}

/// Sees the drain, and does not hold up its end.
#[derive(Debug, Clone)]
pub struct Signal {
    begun: watch::Receiver<bool>,
}

impl Signal {
    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.begun.borrow()
    }
}

/// Sees the drain, and holds up its end until dropped.
#[derive(Debug, Clone)]
pub struct Watch {
    begun: watch::Receiver<bool>,
    /// The same again, to be looked at for each request.
    flag: Arc<AtomicBool>,
    _alive: mpsc::Sender<()>,
}

impl Watch {
    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Returns when the drain has begun (or its trigger is gone).
    pub async fn begun(&mut self) {
        let _ = self.begun.wait_for(|begun| *begun).await;
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
}
