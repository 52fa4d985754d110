//! Bytes: a connection to one endpoint of a destination, chosen as for a request, tried again elsewhere while nothing
//! has been sent.

use crate::{
    error::{Error, Kind, Result},
    logic::Outcome,
    record::Record,
    state::{Cluster, HostEntry, RouteAction, State},
    upstream::Io,
};
use smallvec::SmallVec;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Endpoints that are tried for one connection.
const TRIES: usize = 3;
/// A tunnel on which nothing moves for so long is ended, unless its route says otherwise.
pub const IDLE: Duration = Duration::from_secs(3600);
/// How long a connection waits for the configuration of a destination that nobody has called before.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to a destination by its authority; also how long it may be silent.
pub async fn open(state: &Arc<State>, authority: &str, record: &Record) -> Result<(Io, Duration)> {
    let routes = match state.host(state.load(), authority, PATIENCE).await {
        None => return Err(Kind::ConfigNotReady.detail(format!("no configuration for {authority} in time"))),
        Some((_, HostEntry::Absent)) => {
            return Err(Kind::RouteNotFound.detail(format!("no service is called {authority}")));
        }
        Some((_, HostEntry::Ready(host))) => host.routes.clone(),
    };
    let route = routes.first(authority).ok_or(Kind::RouteNotFound)?;
    let RouteAction::Forward(forward) = &route.action else {
        return Err(Kind::BytesRefused.detail("its route answers itself; bytes have no answer"));
    };
    let target = forward.target(rand::random()).ok_or(Kind::RouteNotFound)?;
    record.with(|r| {
        r.told.route = Some(route.name.clone());
        r.told.cluster = Some(target.name.clone());
        r.metrics = Some(target.metrics.clone());
    });
    let cluster = target.cluster.as_ref().ok_or(Kind::ClusterNotFound)?;
    Ok((dial(cluster, record).await?, forward.idle_timeout.unwrap_or(IDLE)))
}

/// Connects to an endpoint of a cluster.
pub async fn dial(cluster: &Arc<Cluster>, record: &Record) -> Result<Io> {
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
                return Ok(io);
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
