//! A point in time that wakes its task: armed when it is first waited for, since most requests end before that.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep};

/// Goes off at a given time.
#[derive(Debug)]
pub struct Alarm {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Not armed yet.
    pub fn new(at: Instant) -> Self {
        Self { at, sleep: None }
    }

    /// Another time.
    pub fn reset(&mut self, at: Instant) {
        self.at = at;
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(at);
        }
    }

    /// Ready when the time has come.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at))).as_mut().poll(cx)
    }
}

pin_project_lite::pin_project! {
    /// A future, and the end of its time.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Until<F> {
        #[pin]
        future: F,
        end: Option<Alarm>,
    }
}

/// Runs a future until its time is over; `None` then. (A type of its own, for `tokio::select!` and an `async fn` would
/// hold the future twice.)
pub fn until<F>(end: Option<Instant>, future: F) -> Until<F> {
    Until { future, end: end.map(Alarm::new) }
}

impl<F: Future> Future for Until<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        match this.end {
            Some(alarm) => alarm.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_future_has_its_time_and_no_more() {
        let begun = Instant::now();
        let end = begun + Duration::from_secs(2);
        let slow = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        assert_eq!(until(Some(end), slow(1)).await, Some(()));
        assert_eq!(until(Some(end), slow(60)).await, None);
        assert_eq!(begun.elapsed().as_secs(), 2);
        assert_eq!(until(None, slow(60)).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_armed_alarm_can_be_put_off() {
        let begun = Instant::now();
        let mut alarm = Alarm::new(begun + Duration::from_secs(1));
        std::future::poll_fn(|cx| {
            let _ = alarm.poll(cx);
            Poll::Ready(())
        })
        .await;
        alarm.reset(begun + Duration::from_secs(3));
        std::future::poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 3);
    }
}
