//! The load generator: closed loop (as fast as answers come) and open loop (requests start when they are due).
//!
//! Bounded in time and count; a failure is counted, never retried, and never a request done.

mod clock;
mod http1;
mod http2;

use crate::{
    contestant::{Failure, Target},
    measure::quantile,
    scenario::Scenario,
};
use clock::Clock;
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, task::JoinSet, time};

/// After which a request has failed.
const LIMIT: Duration = Duration::from_secs(10);

/// How many of many clients have a request under way at once, where it is connections that count.
const AT_ONCE: usize = 32;

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

    /// Right answers a second.
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(f64::EPSILON)
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

    /// Takes what came of more that was asked afterwards.
    pub fn then(&mut self, other: Self) {
        self.took += other.took;
        self.add(other);
        self.latencies.sort_unstable();
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.latencies.extend(other.latencies);
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// Connected clients, each of which waits for its answer before it asks again.
pub struct Clients {
    clients: Vec<Client>,
}

impl Clients {
    /// Connects them.
    pub async fn connect(scenario: Scenario, target: &Target) -> Result<Self, Failure> {
        let shape = scenario.shape();
        Self::so_many(scenario, target, shape.connections, shape.streams.unwrap_or(1)).await
    }

    /// Connects one alone.
    pub async fn one(scenario: Scenario, target: &Target) -> Result<Self, Failure> {
        Self::so_many(scenario, target, 1, 1).await
    }

    /// Connects so many, with so many requests at once on each.
    pub async fn so_many(
        scenario: Scenario,
        target: &Target,
        connections: usize,
        streams: usize,
    ) -> Result<Self, Failure> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let plan = Plan { scenario, target: target.clone() };
            let first = plan.connect().await?;
            for _ in 1..streams {
                let Connection::Http2(sender) = &first else { break };
                clients.push(Client { plan: plan.clone(), connection: Connection::Http2(sender.clone()) });
            }
            clients.push(Client { plan, connection: first });
        }
        Ok(Self { clients })
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.clients.len() as u64
    }

    /// As many requests as get done in this time.
    pub async fn closed(&mut self, lasts: Duration) -> Result<Outcome, Failure> {
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for mut client in self.clients.drain(..) {
            running.spawn(async move {
                let mut outcome = Outcome::default();
                let work = async {
                    while begun.elapsed() < lasts {
                        let answer = client.once().await;
                        outcome.count(&answer);
                        if answer.is_err() {
                            client.replace().await;
                        }
                    }
                };
                if time::timeout(lasts + LIMIT, work).await.is_err() {
                    outcome.count(&Err("no answer in time".into()));
                    client.replace().await;
                }
                (client, outcome)
            });
        }
        self.collect(running, begun).await
    }

    /// One request of each, few at a time.
    pub async fn exactly_each(&mut self) -> Result<Outcome, Failure> {
        let begun = Instant::now();
        let mut all = Outcome::default();
        let mut rest = std::mem::take(&mut self.clients);
        while !rest.is_empty() {
            let mut few = Self { clients: rest.split_off(rest.len().saturating_sub(AT_ONCE)) };
            all.add(few.exactly(few.clients.len() as u64).await?);
            self.clients.append(&mut few.clients);
        }
        all.took = begun.elapsed();
        Ok(all)
    }

    /// This many requests, as fast as answers come.
    pub async fn exactly(&mut self, requests: u64) -> Result<Outcome, Failure> {
        let begun = Instant::now();
        let mut running = JoinSet::new();
        let clients = self.clients.len() as u64;
        for (n, mut client) in self.clients.drain(..).enumerate() {
            let share = requests / clients + u64::from((n as u64) < requests % clients);
            running.spawn(async move {
                let mut outcome = Outcome::default();
                for _ in 0..share {
                    let answer = time::timeout(LIMIT * 6, client.once()).await.unwrap_or_else(|e| Err(e.into()));
                    outcome.count(&answer);
                }
                (client, outcome)
            });
        }
        self.collect(running, begun).await
    }

    /// So many requests a second for this time; each is timed from when it was due, so that a slow answer also counts
    /// for those that had to wait behind it.
    pub async fn open(&mut self, rate: u32, lasts: Duration) -> Result<Outcome, Failure> {
        let mut running = JoinSet::new();
        let mut queues = Vec::new();
        for mut client in self.clients.drain(..) {
            // As long as everything that may ever be in it.
            let (queue, mut due) = mpsc::unbounded_channel::<Instant>();
            queues.push(queue);
            running.spawn(async move {
                let mut outcome = Outcome::default();
                let work = async {
                    while let Some(due) = due.recv().await {
                        let answer = client.once().await;
                        outcome.count(&answer);
                        match answer {
                            Ok(()) => outcome.latencies.push(due.elapsed()),
                            Err(_) => client.replace().await,
                        }
                    }
                };
                if time::timeout(lasts + LIMIT, work).await.is_err() {
                    outcome.count(&Err("no answer in time".into()));
                    client.replace().await;
                }
                (client, outcome)
            });
        }
        let mut clock = Clock::new(rate)?;
        let begun = clock.begun();
        let total = (lasts.as_secs_f64() * f64::from(rate)) as u32;
        let tick = async {
            for n in 0..total {
                let due = clock.due(n);
                clock.until(due).await?;
                let _ = queues[n as usize % queues.len()].send(due);
            }
            queues.clear();
            Ok::<_, std::io::Error>(())
        };
        tick.await?;
        self.collect(running, begun).await
    }

    async fn collect(&mut self, mut running: JoinSet<(Client, Outcome)>, begun: Instant) -> Result<Outcome, Failure> {
        let mut all = Outcome::default();
        while let Some(ended) = running.join_next().await {
            let (client, outcome) = ended?;
            self.clients.push(client);
            all.add(outcome);
        }
        all.took = begun.elapsed();
        all.latencies.sort_unstable();
        Ok(all)
    }
}

/// One that waits for its answer before it asks again.
struct Client {
    plan: Plan,
    connection: Connection,
}

enum Connection {
    None,
    Http1(http1::Connection),
    Http2(http2::Sender),
}

impl Client {
    async fn once(&mut self) -> Result<(), Failure> {
        if self.plan.scenario.reconnects() {
            self.connection = self.plan.connect().await?;
        }
        match &mut self.connection {
            Connection::None => Err("no connection".into()),
            Connection::Http1(connection) => connection.exchange().await,
            Connection::Http2(sender) => http2::exchange(sender, self.plan.scenario, &self.plan.target).await,
        }
    }

    /// After a failure: a new connection, and no hurry.
    async fn replace(&mut self) {
        time::sleep(Duration::from_millis(10)).await;
        self.connection = self.plan.connect().await.unwrap_or(Connection::None);
    }
}

/// Where a client connects, and for what.
#[derive(Clone)]
struct Plan {
    scenario: Scenario,
    target: Target,
}

impl Plan {
    async fn connect(&self) -> Result<Connection, Failure> {
        if self.scenario.shape().streams.is_some() {
            return Ok(Connection::Http2(http2::connect(&self.target).await?));
        }
        Ok(Connection::Http1(http1::Connection::connect(self.scenario, &self.target).await?))
    }
}
