//! What one request's decisions cost, each by itself: `cargo bench -p weir-benches --bench decisions`.
#![allow(missing_docs)] // the function that `criterion_group!` makes

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use weir_config::model::{Backoff, LoadBalancing, OutlierDetection, RetryBudget as BudgetConfig};
use weir_proxy::{
    logic::{
        EndpointHealth, Limit, Member, Outcome, Outlier, Part, PeakEwma, Picker, RetryBudget, View, Weighted, backoff,
        grpc_timeout,
    },
    telemetry::{Direction, Metrics, Protocol, RequestRecord, RouteLabels, metrics, trace},
};

/// Endpoints as the balancer sees them, with their real averages and breakers.
struct Fleet {
    loads: Vec<Arc<PeakEwma>>,
    outlier: Outlier,
    now: Instant,
}

impl Fleet {
    fn new(n: usize) -> Self {
        let now = Instant::now();
        let load = || Arc::new(PeakEwma::new(Duration::from_secs(10), Duration::from_millis(30), now));
        let healths: Vec<Arc<EndpointHealth>> = (0..n).map(|_| Arc::default()).collect();
        Self { loads: (0..n).map(|_| load()).collect(), outlier: Outlier::new(outlier(), healths, now), now }
    }

    fn picker(&self, policy: &LoadBalancing) -> Picker {
        let member = Member { key: 0, priority: 0, locality: 0, locality_weight: 1, weight: 1, takes_requests: true };
        Picker::new(policy, &vec![member; self.loads.len()], 50, Some(Part { sidecar: 1, busy: 4 }))
    }
}

impl View for Fleet {
    fn is_available(&self, slot: usize) -> bool {
        self.outlier.is_available(slot)
    }
    fn load(&self, slot: usize) -> f64 {
        self.loads[slot].cost(self.now)
    }
    fn generation(&self) -> u64 {
        self.outlier.generation()
    }
    fn under_way(&self) -> u64 {
        0
    }
    fn millis(&self) -> u64 {
        0
    }
}

fn outlier() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(5),
        consecutive_gateway_failure: Some(5),
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 50,
        failure_percentage: None,
    }
}

fn picks(c: &mut Criterion) {
    let policies = [
        ("peak_ewma", LoadBalancing::default()),
        ("least_request", LoadBalancing::LeastRequest { choices: 2 }),
        ("round_robin", LoadBalancing::RoundRobin),
    ];
    let mut group = c.benchmark_group("pick");
    for (name, policy) in &policies {
        for n in [3, 100, 1_000] {
            let fleet = Fleet::new(n);
            let picker = fleet.picker(policy);
            let mut rng = SmallRng::seed_from_u64(1);
            group.bench_function(BenchmarkId::new(*name, n), |b| {
                b.iter(|| picker.pick(black_box(&fleet), &[], &mut rng));
            });
        }
    }
    group.finish();
}

fn breakers(c: &mut Criterion) {
    let fleet = Fleet::new(10);
    c.bench_function("ewma/start_and_answer", |b| b.iter(|| fleet.loads[0].start(fleet.now).answered(fleet.now)));
    c.bench_function("outlier/success", |b| b.iter(|| fleet.outlier.record(3, Outcome::Success, fleet.now)));
    c.bench_function("outlier/sweep_not_due", |b| b.iter(|| fleet.outlier.sweep(black_box(fleet.now))));
    let limit = Arc::new(Limit::new(Some(1_024)));
    c.bench_function("limit/acquire_and_release", |b| b.iter(|| limit.try_acquire()));
    let budget = RetryBudget::new(BudgetConfig::default(), fleet.now);
    c.bench_function("budget/deposit", |b| b.iter(|| budget.deposit(black_box(fleet.now))));
    c.bench_function("budget/withdraw", |b| b.iter(|| budget.try_withdraw(black_box(fleet.now))));
}

fn small_ones(c: &mut Criterion) {
    let mut rng = SmallRng::seed_from_u64(1);
    let weighted = Weighted::new([90, 9, 1]).unwrap();
    c.bench_function("weighted/choose", |b| b.iter(|| weighted.choose(rng.next_u64())));
    c.bench_function("backoff/wait", |b| b.iter(|| backoff::wait(&Backoff::default(), 2, rng.next_u64())));
    c.bench_function("grpc_timeout/parse", |b| b.iter(|| grpc_timeout::parse(black_box(b"800000u"))));
    let left = Duration::from_millis(793);
    c.bench_function("grpc_timeout/format", |b| b.iter(|| grpc_timeout::format(black_box(left))));
    let header = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    c.bench_function("trace/parse_and_continue", |b| {
        b.iter(|| trace::TraceContext::parse(black_box(header)).map(|t| t.child(7).header()));
    });
    c.bench_function("trace/request_id", |b| b.iter(|| trace::request_id(u128::from(rng.next_u64()))));
}

fn telemetry(c: &mut Criterion) {
    let metrics = Metrics::new(metrics::DEFAULT_SERIES);
    let handle = metrics.route(RouteLabels {
        direction: Direction::Outbound,
        workload: "demo/web".into(),
        destination: "catalog.demo.svc.cluster.local:8080".into(),
        route: "default".into(),
        tls: true,
    });
    let (method, uri) = (http::Method::GET, http::Uri::from_static("/titles"));
    let mut record = RequestRecord::new(SystemTime::now(), Direction::Outbound, Protocol::Http1, method, uri);
    record.status = Some(200);
    record.duration = Duration::from_micros(1_700);
    record.time_to_headers = Some(Duration::from_micros(1_600));
    record.overhead = Some(Duration::from_micros(60));
    c.bench_function("metrics/request", |b| b.iter(|| handle.request(black_box(&record))));
    c.bench_function("metrics/scrape", |b| b.iter(|| metrics.tell(Instant::now()).len()));
}

criterion_group!(benches, picks, breakers, small_ones, telemetry);
criterion_main!(benches);
