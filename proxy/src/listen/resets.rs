//! Requests of one HTTP/2 connection that are cancelled as soon as they have been made. Each may have cost a connection to
//! somewhere; a client that does so with most of what it asks, by the hundreds, is an attack (CVE-2023-44487), and is cut
//! off. Whoever waits for an answer first, however briefly, is only impatient.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Fewer cancellations are no attack.
const ENOUGH: u32 = 200;
/// Nobody waits for less.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Counts one connection's.
#[derive(Debug, Default)]
pub(super) struct Resets {
    asked: AtomicU32,
    cancelled: AtomicU32,
    trip: Notify,
}

/// One request.
#[derive(Debug)]
pub(super) struct Stream {
    resets: Arc<Resets>,
    begun: Instant,
    answered: bool,
}

impl Resets {
    /// A request comes.
    pub(super) fn begin(self: &Arc<Self>) -> Stream {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Stream { resets: self.clone(), begun: Instant::now(), answered: false }
    }

    /// Returns when it is an attack.
    pub(super) async fn too_many(&self) {
        self.trip.notified().await;
    }
}

impl Stream {
    /// It has its response.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.answered || self.begun.elapsed() >= AT_ONCE {
            return;
        }
        let cancelled = self.resets.cancelled.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if cancelled >= ENOUGH && cancelled > self.resets.asked.load(Ordering::Relaxed) / 2 {
            self.resets.trip.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn most_of_many_is_too_many() {
        let resets = Arc::new(Resets::default());
        for _ in 0..ENOUGH {
            resets.begin().answered();
            drop(resets.begin());
        }
        assert!(resets.too_many().now_or_never().is_none());
        drop(resets.begin());
        assert!(resets.too_many().now_or_never().is_some());
        let few = Arc::new(Resets::default());
        (1..ENOUGH).for_each(|_| drop(few.begin()));
        assert!(few.too_many().now_or_never().is_none());
        let impatient = Arc::new(Resets::default());
        let waiting: Vec<_> = (0..ENOUGH).map(|_| impatient.begin()).collect();
        tokio::time::advance(AT_ONCE).await;
        drop(waiting);
        assert!(impatient.too_many().now_or_never().is_none());
    }
}
