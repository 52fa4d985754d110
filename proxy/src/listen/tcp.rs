//! Bytes: a connection to one endpoint of a destination, chosen as for a request, tried again elsewhere while nothing
//! has been sent.

use crate::{
    error::{Error, Kind, Result},
    http1::Taken,
    logic::Outcome,
    record::Record,
    state::{Call, Cluster, Host, HostEntry, RouteAction, Speech, State},
    tunnel::{self, Counted},
    upstream::Io,
};
use smallvec::SmallVec;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Endpoints that are tried for one connection.
const TRIES: usize = 3;
/// Where it is detected what is spoken, bytes may be silent for so long at least.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// How long a connection waits for the configuration of a destination that nobody has called before.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to a destination. Its endpoint counts it as under way until this is dropped.
pub struct Opened {
    io: Option<Io>,
    /// How long it may be silent.
    pub idle: Duration,
    cluster: Arc<Cluster>,
    _call: Option<Call>,
}

impl Opened {
    /// The connection alone, to be given back.
    pub fn take(&mut self) -> Option<Io> {
        self.io.take()
    }

    /// Gives it back.
    pub fn with(mut self, io: Io) -> Self {
        self.io = Some(io);
        self
    }

    /// Carries bytes between a client and this until both have ended, and counts them. `client` and `server`: what was
    /// read of each already.
    pub async fn carry(self, with: Io, client: Vec<u8>, server: Vec<u8>, counted: Counted) {
        let Some(io) = self.io else { return };
        io.keep();
        with.keep();
        let (client, server) = (Taken { io: with, first: client.into() }, Taken { io, first: server.into() });
        tunnel::join(client, server, self.idle, counted.to(self.cluster.metrics.carried())).await;
    }
}

/// Connects to a destination by its authority; also how long it may be silent.
pub async fn open(state: &Arc<State>, authority: &str, record: &Record) -> Result<(Io, Duration)> {
    let host = find(state, authority).await?;
    let opened = through(&host, record).await?;
    let io = opened.io.ok_or(Kind::Internal)?;
    io.keep();
    Ok((io, opened.idle))
}

/// What is known of a destination, asked for where nothing is.
pub async fn find(state: &Arc<State>, authority: &str) -> Result<Arc<Host>> {
    match state.host(state.load(), authority, PATIENCE).await {
        None => Err(Kind::ConfigNotReady.detail(format!("no configuration for {authority} in time"))),
        Some((_, HostEntry::Absent)) => Err(Kind::RouteNotFound.detail(format!("no service is called {authority}"))),
        Some((_, HostEntry::Ready(host))) => Ok(host),
    }
}

/// Connects to a destination by its routes.
pub async fn through(host: &Host, record: &Record) -> Result<Opened> {
    let (cluster, idle) = drawn(host, record)?;
    let (io, call) = dialled(&cluster, record).await?;
    Ok(Opened { io: Some(io), idle: idle_as(host.speech, idle), cluster, _call: Some(call) })
}

/// Connects to where a captured connection was meant to go: what is there is not of the mesh.
pub async fn outside(host: &Host, address: SocketAddr, record: &Record) -> Result<Opened> {
    let (cluster, idle) = drawn(host, record)?;
    let io = cluster.dialer.bytes(address, false).await?;
    Ok(Opened { io: Some(io), idle, cluster, _call: None })
}

fn drawn(host: &Host, record: &Record) -> Result<(Arc<Cluster>, Duration)> {
    let route = host.routes.first(&host.name).ok_or(Kind::RouteNotFound)?;
    let RouteAction::Forward(forward) = &route.action else {
        return Err(Kind::BytesRefused.detail("its route answers itself; bytes have no answer"));
    };
    let target = forward.target(rand::random()).ok_or(Kind::RouteNotFound)?;
    record.with(|r| {
        r.told.route = Some(route.name.clone());
        r.told.cluster = Some(target.name.clone());
        r.metrics = Some(target.metrics.clone());
    });
    let cluster = target.cluster.clone().ok_or(Kind::ClusterNotFound)?;
    Ok((cluster, forward.idle_timeout.unwrap_or(tunnel::FOREVER)))
}

/// How long bytes may be silent, where a route says this.
fn idle_as(speech: Speech, said: Duration) -> Duration {
    match speech {
        // The time that is said is HTTP's: database pools are idle for longer.
        Speech::Detect => said.max(IDLE),
        Speech::Http | Speech::Bytes | Speech::Outside => said,
    }
}

/// Connects to where a captured connection in was meant to go, on this very machine; it may be silent for so long.
pub async fn there(cluster: &Arc<Cluster>, address: SocketAddr, idle: Option<Duration>) -> Result<Opened> {
    let io = cluster.dialer.bytes(address, false).await?;
    Ok(Opened { io: Some(io), idle: idle.unwrap_or(tunnel::FOREVER), cluster: cluster.clone(), _call: None })
}

/// Connects to an endpoint of a cluster; it may be silent for so long.
pub async fn to(cluster: &Arc<Cluster>, idle: Option<Duration>, record: &Record) -> Result<Opened> {
    let (io, call) = dialled(cluster, record).await?;
    Ok(Opened { io: Some(io), idle: idle.unwrap_or(tunnel::FOREVER), cluster: cluster.clone(), _call: Some(call) })
}

async fn dialled(cluster: &Arc<Cluster>, record: &Record) -> Result<(Io, Call)> {
    let mut tried: SmallVec<[usize; 2]> = SmallVec::new();
    let mut last = Error::new(Kind::NoHealthyEndpoint);
    for _ in 0..TRIES {
        let chosen = match cluster.pick(&tried, Instant::now()) {
            Ok(chosen) => chosen,
            Err(error) if tried.is_empty() => return Err(error),
            Err(_) => break,
        };
        let endpoint = &chosen.endpoint;
        record.with(|r| r.endpoint = Some(endpoint.clone()));
        let mut call = cluster.begin(&chosen, Instant::now());
        match cluster.dialer.bytes(endpoint.address, endpoint.mesh).await {
            Ok(io) => {
                call.answered(Outcome::Success, Instant::now());
                return Ok((io, call));
            }
            Err(error) => {
                call.failed(error.kind());
                tried.push(chosen.slot);
                last = error;
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_detected_may_be_silent_for_a_day_and_others_as_long_as_it_is_said() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(idle_as(Speech::Detect, minutes(5)), minutes(24 * 60));
        assert_eq!(idle_as(Speech::Detect, tunnel::FOREVER), tunnel::FOREVER);
        assert_eq!(idle_as(Speech::Bytes, minutes(5)), minutes(5));
    }
}
