//! The load generator: closed loop (as fast as answers come) and open loop (requests start when they are due).
//!
//! Bounded in time and count; a failure is counted, never retried, and never a request done.

use crate::{
    contestant::{Failure, Target},
    measure::quantile,
    scenario::Scenario,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};

/// After which a request has failed.
const LIMIT: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Right answers.
    pub done: u64,
    /// Anything else.
    pub failed: u64,
    /// What the first failure was.
    pub first_failure: Option<String>,
    /// From the first request to the last answer.
    pub took: Duration,
    /// From when each request was due to its last byte, sorted. Empty for a closed loop.
    pub latencies: Vec<Duration>,
}

impl Outcome {
    /// A quantile of the latencies.
    pub fn latency(&self, q: f64) -> Duration {
        quantile(&self.latencies, q)
    }

    fn count(&mut self, answer: &Result<(), Failure>) {
        match answer {
            Ok(()) => self.done += 1,
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.latencies.extend(other.latencies);
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// As many requests as get done in this time.
pub async fn closed(scenario: Scenario, target: &Target, lasts: Duration) -> Result<Outcome, Failure> {
    let clients = clients(scenario, target).await?;
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for mut client in clients {
        running.spawn(async move {
            let mut outcome = Outcome::default();
            while begun.elapsed() < lasts {
                let answer = client.once().await;
                outcome.count(&answer);
                if answer.is_err() {
                    client.replace().await;
                }
            }
            outcome
        });
    }
    collect(running, begun).await
}

/// So many requests a second for this time; each is timed from when it was due, so that a slow answer also counts for
/// those that had to wait behind it.
pub async fn open(scenario: Scenario, target: &Target, rate: u32, lasts: Duration) -> Result<Outcome, Failure> {
    let clients = clients(scenario, target).await?;
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let mut queues = Vec::new();
    for mut client in clients {
        // As long as everything that may ever be in it.
        let (queue, mut due) = mpsc::unbounded_channel::<Instant>();
        queues.push(queue);
        running.spawn(async move {
            let mut outcome = Outcome::default();
            while let Some(due) = due.recv().await {
                let answer = client.once().await;
                outcome.count(&answer);
                match answer {
                    Ok(()) => outcome.latencies.push(due.elapsed()),
                    Err(_) => client.replace().await,
                }
            }
            outcome
        });
    }
    // A thread keeps the clock: the runtime's timers are as coarse as the latencies that are measured.
    let clock = thread::Builder::new().name("clock".into()).spawn(move || {
        let total = (lasts.as_secs_f64() * f64::from(rate)) as u32;
        for n in 0..total {
            let due = begun + Duration::from_secs_f64(f64::from(n) / f64::from(rate));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = queues[n as usize % queues.len()].send(due);
        }
    })?;
    let outcome = collect(running, begun).await;
    clock.join().map_err(|_| "the clock ended early")?;
    outcome
}

async fn collect(mut running: JoinSet<Outcome>, begun: Instant) -> Result<Outcome, Failure> {
    let mut all = Outcome::default();
    while let Some(outcome) = running.join_next().await {
        all.add(outcome?);
    }
    all.took = begun.elapsed();
    all.latencies.sort_unstable();
    Ok(all)
}

async fn clients(scenario: Scenario, target: &Target) -> Result<Vec<Client>, Failure> {
    let (connections, streams) = scenario.shape();
    let mut clients = Vec::new();
    for _ in 0..connections {
        let connection = if scenario.reconnects() { Connection::None } else { connect(scenario, target).await? };
        for _ in 1..streams {
            let Connection::Http2(sender) = &connection else { break };
            let connection = Connection::Http2(sender.clone());
            clients.push(Client { scenario, target: target.clone(), connection });
        }
        clients.push(Client { scenario, target: target.clone(), connection });
    }
    Ok(clients)
}

/// One that waits for its answer before it asks again.
struct Client {
    scenario: Scenario,
    target: Target,
    connection: Connection,
}

enum Connection {
    None,
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    async fn once(&mut self) -> Result<(), Failure> {
        tokio::time::timeout(LIMIT, self.exchange()).await?
    }

    async fn exchange(&mut self) -> Result<(), Failure> {
        if self.scenario.reconnects() {
            self.connection = connect(self.scenario, &self.target).await?;
        }
        let request = self.scenario.request(&self.target.authority);
        let response = match &mut self.connection {
            Connection::None => return Err("no connection".into()),
            Connection::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Connection::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = response.status();
        let mut body = response.into_body();
        let (mut size, mut trailers) = (0, false);
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            size += frame.data_ref().map_or(0, Bytes::len);
            trailers |= frame.is_trailers();
        }
        if !status.is_success() {
            return Err(format!("status {status}").into());
        }
        if size != self.scenario.answer_size() || trailers != self.scenario.is_http2() {
            return Err(format!("an answer of {size} bytes, trailers: {trailers}").into());
        }
        Ok(())
    }

    /// After a failure: a new connection, and no hurry.
    async fn replace(&mut self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if !self.scenario.reconnects() {
            self.connection = connect(self.scenario, &self.target).await.unwrap_or(Connection::None);
        }
    }
}

async fn connect(scenario: Scenario, target: &Target) -> Result<Connection, Failure> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    if scenario.is_http2() {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.timer(TokioTimer::new()).handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        return Ok(Connection::Http2(sender));
    }
    let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    Ok(Connection::Http1(sender))
}
