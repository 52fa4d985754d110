//! From a request to its rule and its destination. What is not configured yet is asked for and awaited for a while.

use crate::{
    error::{Error, Kind},
    request::{Request, Routed, rewrite::answer},
    stage::{Response, Stage},
    state::{HostEntry, Route, RouteAction, RouteTable, Snapshot, State},
};
use std::{sync::Arc, time::Duration};

/// How long a request waits for the configuration of a destination that nobody has called before.
const PATIENCE: Duration = Duration::from_secs(5);

/// Finds the rule among those of the authority that the application calls.
pub struct RouteOutbound<N> {
    /// What comes next.
    pub next: N,
    /// The configuration.
    pub state: Arc<State>,
}

impl<N: Stage<Box<Routed>, Failure = Error>> Stage<Box<Request>> for RouteOutbound<N> {
    type Failure = Error;

    async fn call(&self, mut request: Box<Request>) -> Result<Response, Error> {
        let found = self.host(&request).await;
        let host = match found {
            None => {
                return Err(Kind::ConfigNotReady.detail(format!("no configuration for {} in time", request.authority)));
            }
            Some((_, HostEntry::Absent)) => {
                return Err(Kind::RouteNotFound.detail(format!("no service is called {}", request.authority)));
            }
            Some((snapshot, HostEntry::Ready(host))) => {
                request.snapshot = snapshot;
                host
            }
        };
        dispatch(&self.next, &host.routes, request).await
    }
}

impl<N> RouteOutbound<N> {
    async fn host(&self, request: &Request) -> Option<(Arc<Snapshot>, HostEntry)> {
        let asked = request.connection.destination().unwrap_or(&request.authority);
        if let Some(known) = self.state.known(&request.snapshot, asked, request.received.into_std()) {
            return Some((request.snapshot.clone(), known));
        }
        // Boxed: it is large, and rare.
        Box::pin(self.state.host(request.snapshot.clone(), asked, PATIENCE)).await
    }
}

/// Finds the rule among those of an inbound chain.
pub struct RouteInbound<N> {
    /// What comes next.
    pub next: N,
    /// The chain's rules.
    pub routes: Arc<RouteTable>,
}

impl<N: Stage<Box<Routed>, Failure = Error>> Stage<Box<Request>> for RouteInbound<N> {
    type Failure = Error;

    async fn call(&self, request: Box<Request>) -> Result<Response, Error> {
        dispatch(&self.next, &self.routes, request).await
    }
}

async fn dispatch<N>(next: &N, routes: &RouteTable, request: Box<Request>) -> Result<Response, Error>
where
    N: Stage<Box<Routed>, Failure = Error>,
{
    let Some(route) = routes.find(&request.authority, &request.parts, request.fields.grpc).cloned() else {
        return Err(Kind::RouteNotFound.detail("no rule matches"));
    };
    request.record.with(|r| r.told.route = Some(route.name.clone()));
    if let Some(answer) = answer(&request, &route) {
        return answer;
    }
    next.call(destined(request, route)?).await
}

fn destined(request: Box<Request>, route: Arc<Route>) -> Result<Box<Routed>, Error> {
    let RouteAction::Forward(forward) = &route.action else {
        return Err(Kind::Internal.detail("a route that answers itself"));
    };
    let draw = if forward.targets.len() > 1 { rand::random() } else { 0 };
    let target = forward.target(draw).cloned().ok_or(Kind::RouteNotFound)?;
    request.record.with(|r| {
        r.told.cluster = Some(target.name.clone());
        r.metrics = Some(target.metrics.clone());
    });
    let cluster = target.cluster.clone().ok_or_else(|| Kind::ClusterNotFound.detail(target.name.to_string()))?;
    Ok(Box::new(Routed { request, route, target, cluster, deadline: None }))
}
