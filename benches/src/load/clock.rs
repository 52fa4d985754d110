//! When requests are due: a timer of the kernel, since the runtime's own are as coarse as the latencies to measure.

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};
use tokio::net::unix::pipe;

/// Ticks at a rate.
pub(super) struct Clock {
    /// A timer gives eight bytes at each tick, as a pipe would.
    ticks: pipe::Receiver,
    begun: Instant,
    interval: Duration,
}

impl Clock {
    pub(super) fn new(rate: u32) -> io::Result<Self> {
        let interval = Duration::from_secs_f64(1.0 / f64::from(rate.max(1)));
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let every = Expiration::Interval(TimeSpec::from_duration(interval));
        let begun = Instant::now() + interval;
        timer.set(every, TimerSetTimeFlags::empty())?;
        let ticks = pipe::Receiver::from_owned_fd_unchecked(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { ticks, begun, interval })
    }

    /// When the first request is due.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// When a request is due.
    pub(super) fn due(&self, n: u32) -> Instant {
        self.begun + self.interval * n
    }

    /// Waits until then; at once when it is past.
    pub(super) async fn until(&mut self, due: Instant) -> io::Result<()> {
        while Instant::now() < due {
            self.ticks.readable().await?;
            match self.ticks.try_read(&mut [0; 8]) {
                // Past ticks are of no interest: what is due is read from the clock.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
