//! Load at a fixed rate (open loop): requests start when they are due, however slow the others are.

use crate::client::{Connection, Failure, request};
use http::Method;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Requests with a 2xx answer.
    pub good: u64,
    /// What else came, and how often: `status 503 no_healthy_endpoint`, `connection closed`.
    pub bad: BTreeMap<String, u64>,
    /// The slowest.
    pub slowest: Duration,
    /// When the first bad ones were begun (at most 1,000).
    pub begun: Vec<Instant>,
}

impl Report {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.good + self.bad.values().sum::<u64>()
    }

    /// Fails the test unless every request was good and at least `least` were made.
    pub fn assert_all_good(&self, least: u64) {
        assert!(self.bad.is_empty(), "{self:?}");
        assert!(self.good >= least, "only {} of {least} requests were made: {self:?}", self.good);
    }
}

/// Load that runs until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    /// `GET`s `path` of `host` through `address`, `per_second` times a second, over kept connections.
    pub fn start(address: SocketAddr, host: &str, path: &str, per_second: u32) -> Self {
        Self::of(Method::GET, address, host, path, per_second)
    }

    /// The same with another method.
    pub fn of(method: Method, address: SocketAddr, host: &str, path: &str, per_second: u32) -> Self {
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Report::default())));
        let (host, path): (Arc<str>, Arc<str>) = (host.into(), path.into());
        let idle: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let (stopping, told) = (stop.clone(), report.clone());
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            let mut due = tokio::time::interval(Duration::from_secs(1) / per_second);
            while !stopping.load(Ordering::Relaxed) {
                due.tick().await;
                let (idle, told) = (idle.clone(), told.clone());
                let (method, host, path) = (method.clone(), host.clone(), path.clone());
                running.spawn(async move {
                    let begun = Instant::now();
                    let outcome = once(address, request(method, &host, &path, ""), &idle).await;
                    let mut report = told.lock().expect("a report");
                    report.slowest = report.slowest.max(begun.elapsed());
                    let bad = match outcome {
                        Ok(None) => {
                            report.good += 1;
                            return;
                        }
                        Ok(Some(bad)) => bad,
                        Err(error) => error.to_string(),
                    };
                    *report.bad.entry(bad).or_default() += 1;
                    if report.begun.len() < 1000 {
                        report.begun.push(begun);
                    }
                });
                while running.try_join_next().is_some() {}
            }
            while running.join_next().await.is_some() {}
        });
        Self { stop, report, task }
    }

    /// What came of it so far.
    pub fn so_far(&self) -> Report {
        self.report.lock().expect("a report").clone()
    }

    /// Stops, waits for the requests under way, and tells.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load");
        self.report.lock().expect("a report").clone()
    }
}

async fn once(
    address: SocketAddr,
    request: http::Request<http_body_util::Full<bytes::Bytes>>,
    idle: &Mutex<Vec<Connection>>,
) -> Result<Option<String>, Failure> {
    let kept = idle.lock().expect("a pool").pop().filter(Connection::is_usable);
    let mut connection = match kept {
        Some(connection) => connection,
        None => Connection::http1(address).await?,
    };
    let sent = connection.send(request);
    let answer = tokio::time::timeout(Duration::from_secs(20), sent).await??;
    let closes = answer.headers().get("connection").is_some_and(|v| v == "close");
    if !closes {
        idle.lock().expect("a pool").push(connection);
    }
    if answer.status().is_success() {
        return Ok(None);
    }
    let reason = answer.headers().get("weir-reason").and_then(|v| v.to_str().ok()).unwrap_or("");
    Ok(Some(format!("status {} {reason}", answer.status().as_u16())))
}
