//! What a request to an endpoint is expected to cost: Finagle's peak exponentially weighted moving average of the time
//! to response headers, times what is under way, times a penalty for failures.
//!
//! Three things are added to Finagle's, each for an incident that it is known for:
//! - an answer that is a failure never lowers the average, and the recent share of failures raises the cost, so an
//!   endpoint that fails fast does not draw the traffic of its healthy neighbours (the "black hole");
//! - while requests wait for an answer, the average does not decay and is at least the time since the last sign of
//!   life, so an endpoint that hangs is noticed before its first timeout;
//! - an idle endpoint's cost decays towards zero, as Finagle's does, so that it is tried again.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{Duration, Instant},
};

/// How much an endpoint costs that fails always, compared with one that never does.
const FAILURE_PENALTY: f64 = 100.0;
/// The weight of one more outcome in the share of failures: half-way after five.
const FAILURE_WEIGHT: f64 = 0.125;

/// The load of one endpoint, shared by all threads.
#[derive(Debug)]
pub struct PeakEwma {
    base: Instant,
    decay_nanos: f64,
    default_nanos: f64,
    /// Nanoseconds, as `f64` bits.
    rtt: AtomicU64,
    /// The share of failures, as `f64` bits.
    failures: AtomicU64,
    /// The last sign of life: an answer, or a request to an endpoint that nothing waited for. Nanoseconds since `base`.
    seen: AtomicU64,
    waiting: AtomicU32,
    in_flight: AtomicU32,
}

impl PeakEwma {
    /// An endpoint that has not answered yet is taken for one that answers in `default_rtt`.
    pub fn new(decay: Duration, default_rtt: Duration, now: Instant) -> Self {
        Self {
            base: now,
            decay_nanos: (decay.as_nanos() as f64).max(1.0),
            default_nanos: default_rtt.as_nanos() as f64,
            rtt: AtomicU64::new((default_rtt.as_nanos() as f64).to_bits()),
            failures: AtomicU64::new(0f64.to_bits()),
            seen: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
        }
    }

    /// A request is on its way.
    pub fn start(self: &Arc<Self>, now: Instant) -> Ticket {
        if self.waiting.fetch_add(1, AcqRel) == 0 {
            self.decay_until(self.nanos(now));
        }
        self.in_flight.fetch_add(1, Relaxed);
        Ticket { load: self.clone(), started: now, waiting: true }
    }

    /// What one more request is expected to cost, in nanoseconds of waiting. Smaller is better.
    pub fn cost(&self, now: Instant) -> f64 {
        let nanos = self.nanos(now);
        let idle = nanos.saturating_sub(self.seen.load(Relaxed)) as f64;
        let decayed = (-idle / self.decay_nanos).exp();
        let rtt = load(&self.rtt);
        let expected = if self.waiting.load(Relaxed) > 0 { rtt.max(idle) } else { rtt * decayed };
        let failures = load(&self.failures) * decayed;
        let penalty = 1.0 + (FAILURE_PENALTY - 1.0) * failures * failures;
        expected.max(1.0) * (f64::from(self.in_flight()) + 1.0) * penalty
    }

    /// Requests whose response has not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The share of recent answers that were failures, 0 to 1.
    pub fn failure_share(&self) -> f64 {
        load(&self.failures)
    }

    /// The average time to response headers.
    pub fn rtt(&self) -> Duration {
        Duration::from_nanos(load(&self.rtt) as u64)
    }

    fn observe(&self, took: Duration, failed: bool, now: Instant) {
        let nanos = self.nanos(now);
        // Failing fast is no speed: a failure counts as no quicker than an unknown endpoint.
        let floor = if failed { self.default_nanos } else { 0.0 };
        let sample = (took.as_nanos() as f64).max(floor);
        let elapsed = nanos.saturating_sub(self.seen.swap(nanos, Relaxed)) as f64;
        let keep = (-elapsed / self.decay_nanos).exp();
        update(&self.rtt, |rtt| {
            if sample > rtt {
                sample
            } else if failed {
                rtt
            } else {
                rtt * keep + sample * (1.0 - keep)
            }
        });
        let outcome = f64::from(u8::from(failed));
        update(&self.failures, |share| share + (outcome - share) * FAILURE_WEIGHT);
    }

    /// Books the decay of an idle time, which ends here.
    fn decay_until(&self, nanos: u64) {
        let idle = nanos.saturating_sub(self.seen.swap(nanos, Relaxed)) as f64;
        let keep = (-idle / self.decay_nanos).exp();
        update(&self.rtt, |rtt| rtt * keep);
        update(&self.failures, |share| share * keep);
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).as_nanos() as u64
    }
}

/// One request under way. Dropped at the end of the response (or when it is given up).
#[derive(Debug)]
#[must_use = "the request counts as under way until the ticket is dropped"]
pub struct Ticket {
    load: Arc<PeakEwma>,
    started: Instant,
    waiting: bool,
}

impl Ticket {
    /// The response's headers are here.
    pub fn answered(&mut self, now: Instant) {
        self.settle(false, now);
    }

    /// It failed, or the answer is a failure of the endpoint (5xx, the gRPC codes that say so, a timeout, a reset).
    pub fn failed(&mut self, now: Instant) {
        self.settle(true, now);
    }

    /// The caller went away before an answer: no failure, but at least this slow.
    pub fn abandoned(&mut self, now: Instant) {
        if std::mem::take(&mut self.waiting) {
            let waited = now.saturating_duration_since(self.started).as_nanos() as f64;
            update(&self.load.rtt, |rtt| rtt.max(waited));
            self.load.waiting.fetch_sub(1, AcqRel);
        }
    }

    fn settle(&mut self, failed: bool, now: Instant) {
        if std::mem::take(&mut self.waiting) {
            self.load.observe(now.saturating_duration_since(self.started), failed, now);
            self.load.waiting.fetch_sub(1, AcqRel);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.waiting {
            self.load.waiting.fetch_sub(1, AcqRel);
        }
        self.load.in_flight.fetch_sub(1, Relaxed);
    }
}

fn load(cell: &AtomicU64) -> f64 {
    f64::from_bits(cell.load(Relaxed))
}

fn update(cell: &AtomicU64, f: impl Fn(f64) -> f64) {
    let _ = cell.fetch_update(Relaxed, Relaxed, |bits| Some(f(f64::from_bits(bits)).to_bits()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn endpoint(now: Instant) -> Arc<PeakEwma> {
        Arc::new(PeakEwma::new(Duration::from_secs(10), 30 * MS, now))
    }

    /// `n` requests one after the other, each taking `took`.
    fn serve(e: &Arc<PeakEwma>, now: &mut Instant, n: u32, took: Duration, failed: bool) {
        for _ in 0..n {
            let mut ticket = e.start(*now);
            *now += took;
            if failed { ticket.failed(*now) } else { ticket.answered(*now) }
        }
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let mut now = Instant::now();
        let e = endpoint(now);
        serve(&e, &mut now, 1, 500 * MS, false);
        assert_eq!(e.rtt(), 500 * MS);
        serve(&e, &mut now, 10, 10 * MS, false);
        assert!(e.rtt() > 480 * MS);
        serve(&e, &mut now, 10_000, 10 * MS, false);
        assert!(e.rtt() < 11 * MS);
    }

    #[test]
    fn what_is_under_way_counts() {
        let now = Instant::now();
        let e = endpoint(now);
        let before = e.cost(now);
        let tickets: Vec<_> = (0..3).map(|_| e.start(now)).collect();
        assert_eq!((e.cost(now) / before).round(), 4.0);
        drop(tickets);
        assert_eq!(e.in_flight(), 0);
        assert_eq!(e.cost(now), before);
    }

    #[test]
    fn failing_fast_is_dearer_than_answering_slowly() {
        let mut now = Instant::now();
        let (good, bad) = (endpoint(now), endpoint(now));
        serve(&good, &mut now.clone(), 100, 200 * MS, false);
        serve(&bad, &mut now, 10, MS, true);
        assert!(bad.cost(now) > good.cost(now), "{} {}", bad.cost(now), good.cost(now));
    }

    #[test]
    fn a_hanging_endpoint_is_noticed_before_any_answer() {
        let now = Instant::now();
        let e = endpoint(now);
        let _ticket = e.start(now);
        assert!(e.cost(now + Duration::from_secs(2)) >= 2.0 * 2e9);
    }

    #[test]
    fn a_long_stream_that_has_answered_does_not_look_like_a_hang() {
        let now = Instant::now();
        let e = endpoint(now);
        let mut stream = e.start(now);
        stream.answered(now + MS);
        assert!(e.cost(now + Duration::from_secs(3_600)) < 1e6);
        assert_eq!(e.in_flight(), 1);
    }

    #[test]
    fn an_idle_endpoint_is_tried_again() {
        let mut now = Instant::now();
        let e = endpoint(now);
        serve(&e, &mut now, 1, Duration::from_secs(5), true);
        assert!(e.cost(now) > 5e9);
        assert!(e.cost(now + Duration::from_secs(100)) < 1e6);
    }

    proptest! {
        #[test]
        fn a_cost_is_always_a_positive_number(steps in prop::collection::vec((0u64..5_000, 0u8..5), 0..200)) {
            let mut now = Instant::now();
            let e = endpoint(now);
            let mut tickets = Vec::new();
            for (millis, what) in steps {
                now += Duration::from_millis(millis);
                match (what, tickets.pop()) {
                    (0, Some(mut t)) => { Ticket::answered(&mut t, now); }
                    (1, Some(mut t)) => { Ticket::failed(&mut t, now); }
                    (2, Some(mut t)) => { Ticket::abandoned(&mut t, now); }
                    (3, ticket) => drop(ticket),
                    (_, ticket) => { tickets.extend(ticket); tickets.push(e.start(now)); }
                }
                let cost = e.cost(now);
                prop_assert!(cost.is_finite() && cost >= 1.0);
                prop_assert!((0.0..=1.0).contains(&e.failure_share()));
                prop_assert_eq!(e.in_flight() as usize, tickets.len());
            }
        }
    }
}
