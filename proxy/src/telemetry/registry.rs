//! Counters, gauges and histograms, and families of them by labels, with one hard cap on the number of series.
//!
//! Own code and not the `prometheus` crate, for what happens per request: there a metric with labels is looked up under
//! a lock by a hash of all its labels, a histogram keeps two copies of each bucket, and nothing caps the series. Here
//! the lookup is done when the configuration is built and a request touches atomics only.

use super::exposition::Exposition;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{Duration, Instant},
};

/// A series that nobody holds a handle of is told for so long after its last handle went.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down. A whole number, or set to any.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// Adds, or takes away.
    pub fn add(&self, by: f64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + by).to_bits()));
    }

    /// The value.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// How often a time fell into which bucket.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Bound],
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// The upper end of a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bound(u64, &'static str);

macro_rules! bounds {
    ($($nanos:literal $seconds:literal),+ $(,)?) => { &[$(Bound($nanos, $seconds)),+] };
}

/// Times of requests: half a millisecond to ten seconds. OpenTelemetry's buckets, and some below, since a mesh is fast.
pub const REQUEST_SECONDS: &[Bound] = bounds![
    500_000 "0.0005", 1_000_000 "0.001", 2_500_000 "0.0025", 5_000_000 "0.005", 10_000_000 "0.01", 25_000_000 "0.025",
    50_000_000 "0.05", 75_000_000 "0.075", 100_000_000 "0.1", 250_000_000 "0.25", 500_000_000 "0.5",
    750_000_000 "0.75", 1_000_000_000 "1", 2_500_000_000 "2.5", 5_000_000_000 "5", 7_500_000_000 "7.5",
    10_000_000_000 "10",
];

/// What the proxy itself adds: ten microseconds to a tenth of a second.
pub const OVERHEAD_SECONDS: &[Bound] = bounds![
    10_000 "0.00001", 25_000 "0.000025", 50_000 "0.00005", 100_000 "0.0001", 250_000 "0.00025", 500_000 "0.0005",
    1_000_000 "0.001", 2_500_000 "0.0025", 5_000_000 "0.005", 10_000_000 "0.01", 25_000_000 "0.025",
    100_000_000 "0.1",
];

impl Histogram {
    /// Empty.
    pub fn new(bounds: &'static [Bound]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_nanos: AtomicU64::new(0) }
    }

    /// Counts a time.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|b| b.0 < nanos);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Relaxed)).sum()
    }
}

/// What can be told as samples of a family.
pub trait Metric {
    /// Prometheus' word for it.
    const KIND: &'static str;

    /// Tells its samples.
    fn tell(&self, labels: &[(&str, &str)], out: &mut Exposition);
}

impl Metric for Counter {
    const KIND: &'static str = "counter";
    fn tell(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        out.sample(labels.iter().copied(), self.value());
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";
    fn tell(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        out.sample(labels.iter().copied(), self.value());
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";
    fn tell(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        let mut sum = 0;
        let les = self.bounds.iter().map(|b| b.1).chain(["+Inf"]);
        for (count, le) in self.counts.iter().zip(les) {
            sum += count.load(Relaxed);
            out.sample_of("_bucket", labels.iter().copied().chain([("le", le)]), sum);
        }
        out.sample_of("_sum", labels.iter().copied(), Duration::from_nanos(self.sum_nanos.load(Relaxed)).as_secs_f64());
        out.sample_of("_count", labels.iter().copied(), sum);
    }
}

/// How many series there may be in all families together.
#[derive(Debug)]
pub struct Cap {
    max: usize,
    active: AtomicUsize,
    dropped: Counter,
}

impl Cap {
    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// None yet.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, active: AtomicUsize::new(0), dropped: Counter::default() })
    }

    /// How many there are.
    pub fn active(&self) -> usize {
        self.active.load(Relaxed)
    }

    /// How many were asked for and counted as `other` instead.
    pub fn dropped(&self) -> u64 {
        self.dropped.value()
    }

    fn take(&self) -> bool {
        let taken = self.active.fetch_update(AcqRel, Relaxed, |n| (n < self.max).then(|| n + 1)).is_ok();
        if !taken {
            self.dropped.inc();
        }
        taken
    }
}

/// A metric by the values of `L` labels.
#[derive(Debug)]
pub struct Family<M, const L: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; L],
    make: fn() -> M,
    cap: Arc<Cap>,
    series: Mutex<HashMap<[Arc<str>; L], Series<M>>>,
    other: Arc<M>,
    other_used: AtomicUsize,
}

#[derive(Debug)]
struct Series<M> {
    metric: Arc<M>,
    unheld_since: Option<Instant>,
}

impl<M: Metric, const L: usize> Family<M, L> {
    /// An empty family.
    pub fn new(
        cap: &Arc<Cap>,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; L],
        make: fn() -> M,
    ) -> Self {
        let (cap, other) = (cap.clone(), Arc::new(make()));
        Self { name, help, labels, make, cap, series: Mutex::default(), other, other_used: AtomicUsize::new(0) }
    }

    /// A handle of the series with these labels; of the one whose labels are all `other` if there are too many.
    pub fn with(&self, labels: [Arc<str>; L]) -> Arc<M> {
        let mut series = self.series.lock();
        if let Some(found) = series.get(&labels) {
            return found.metric.clone();
        }
        if !self.cap.take() {
            self.other_used.store(1, Relaxed);
            return self.other.clone();
        }
        let metric = Arc::new((self.make)());
        series.insert(labels, Series { metric: metric.clone(), unheld_since: None });
        metric
    }

    /// As [`Self::with`], for labels that are no `Arc` yet.
    pub fn of(&self, labels: [&str; L]) -> Arc<M> {
        self.with(labels.map(Arc::from))
    }

    /// Tells all series, and forgets those whose last handle went long ago.
    pub fn tell(&self, now: Instant, out: &mut Exposition) {
        out.family(self.name, M::KIND, self.help);
        let mut series = self.series.lock();
        series.retain(|_, s| {
            let held = Arc::strong_count(&s.metric) > 1;
            s.unheld_since = if held { None } else { Some(s.unheld_since.unwrap_or(now)) };
            let keep = s.unheld_since.is_none_or(|since| now.saturating_duration_since(since) < FORGOTTEN_AFTER);
            if !keep {
                self.cap.active.fetch_sub(1, AcqRel);
            }
            keep
        });
        let mut sorted: Vec<_> = series.iter().map(|(labels, s)| (labels.clone(), s.metric.clone())).collect();
        drop(series);
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (values, metric) in sorted {
            self.tell_one(values.each_ref().map(|v| &**v), &metric, out);
        }
        if self.other_used.load(Relaxed) > 0 {
            self.tell_one(["other"; L], &self.other, out);
        }
    }

    fn tell_one(&self, values: [&str; L], metric: &M, out: &mut Exposition) {
        let mut labels = [("", ""); L];
        for (i, label) in labels.iter_mut().enumerate() {
            *label = (self.labels[i], values[i]);
        }
        metric.tell(&labels, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let h = Histogram::new(REQUEST_SECONDS);
        for ms in [0, 1, 3, 60_000] {
            h.observe(Duration::from_millis(ms));
        }
        let mut out = Exposition::default();
        h.tell(&[("a", "b")], &mut out);
        let text = out.finish();
        for line in [
            "_bucket{a=\"b\",le=\"0.0005\"} 1",
            "_bucket{a=\"b\",le=\"0.001\"} 2",
            "_bucket{a=\"b\",le=\"0.005\"} 3",
            "_bucket{a=\"b\",le=\"10\"} 3",
            "_bucket{a=\"b\",le=\"+Inf\"} 4",
            "_sum{a=\"b\"} 60.004",
            "_count{a=\"b\"} 4",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(REQUEST_SECONDS.windows(2).chain(OVERHEAD_SECONDS.windows(2)).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn above_the_cap_all_is_other_and_is_counted() {
        let cap = Cap::new(2);
        let family = Family::new(&cap, "weir_x_total", "X.", ["a", "b"], Counter::default);
        let handles: Vec<_> = ["1", "2", "3", "4", "1"].iter().map(|a| family.of([a, "x"])).collect();
        handles.iter().for_each(|h| h.inc());
        let mut out = Exposition::default();
        family.tell(Instant::now(), &mut out);
        let text = out.finish();
        assert!(text.contains("{a=\"1\",b=\"x\"} 2") && text.contains("{a=\"other\",b=\"other\"} 2"), "{text}");
        assert_eq!((cap.active(), cap.dropped()), (2, 2));
    }

    #[test]
    fn a_series_is_forgotten_some_time_after_its_last_handle() {
        let cap = Cap::new(10);
        let family = Family::new(&cap, "weir_x", "X.", ["a"], Gauge::default);
        let (held, dropped) = (family.of(["held"]), family.of(["dropped"]));
        drop(dropped);
        let now = Instant::now();
        let tell = |now| {
            let mut out = Exposition::default();
            family.tell(now, &mut out);
            out.finish()
        };
        assert!(tell(now).contains("dropped"));
        assert!(!tell(now + FORGOTTEN_AFTER).contains("dropped"));
        assert!(tell(now + FORGOTTEN_AFTER).contains("held"));
        assert_eq!(cap.active(), 1);
        drop(held);
    }
}
